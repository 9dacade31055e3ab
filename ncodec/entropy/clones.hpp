// NCODEC_CLONES: compile a function twice, for any x86-64 and for AVX2, and choose when the module is loaded.

#pragma once

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define NCODEC_CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define NCODEC_CLONES
#endif

// In the path of every bin: a call would cost as much as the work.
#if defined(__GNUC__)
#define NCODEC_INLINE __attribute__((always_inline)) inline
#else
#define NCODEC_INLINE inline
#endif
