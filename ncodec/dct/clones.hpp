// NCODEC_CLONES: compile a function twice, for any x86-64 and for AVX2, and choose when the module is loaded.

#pragma once

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define NCODEC_CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define NCODEC_CLONES
#endif
