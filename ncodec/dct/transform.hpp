#pragma once
#include <cmath>
#include <vector>
#include "kernels.hpp"
namespace ncodec::dct {
enum class Kind : int { dct = 0, approximate = 1 };
struct Matrices { int8_t t[5][64*64];
  Matrices() { for (int l=2;l<=6;++l){int n=1<<l; for(int k=0;k<n;++k) for(int i=0;i<n;++i) { double v = 64*std::sqrt(n)*(k?std::sqrt(2.0/n):std::sqrt(1.0/n))*std::cos((2*i+1)*k*M_PI/(2*n)); t[l-2][k*n+i]=(int8_t)std::lround(v);} } } };
inline const Matrices M_;
NCODEC_CLONES static void inverse(const int16_t* c, int16_t* out, int stride, int log2, Kind, int rows, int cols) {
  const int n = 1<<log2; const int8_t* t = M_.t[log2-2];
  int16_t tmp[64*64];
  for (int i=0;i<n;++i) { int acc[64]={0};
    for (int k=0;k<rows;++k){ const int w=t[k*n+i]; const int16_t* r=c+k*n; for(int x=0;x<cols;++x) acc[x]+=w*r[x]; }
    for(int x=0;x<cols;++x) tmp[i*64+x]=(int16_t)std::clamp((acc[x]+64)>>7,-32768,32767); }
  for (int y=0;y<n;++y) { int acc[64]={0};
    for (int k=0;k<cols;++k){ const int w=tmp[y*64+k]; const int8_t* r=t+k*n; for(int x=0;x<n;++x) acc[x]+=w*r[x]; }
    for(int x=0;x<n;++x) out[y*stride+x]=(int16_t)std::clamp((acc[x]+512)>>10,-32768,32767); }
}
// out: side x side, rows of n; only the first min(n,32) rows/columns are made. Orthonormal times 2^(5-log2).
NCODEC_CLONES static void forward(const int16_t* r, int stride, int32_t* c, int log2, Kind) {
  const int n = 1<<log2, m = std::min(n,32); const int8_t* t = M_.t[log2-2];
  int tmp[32*64];
  for (int k=0;k<m;++k){ int acc[64]={0}; for(int i=0;i<n;++i){const int w=t[k*n+i]; const int16_t* p=r+i*stride; for(int x=0;x<n;++x) acc[x]+=w*p[x];}
    for(int x=0;x<n;++x) tmp[k*64+x]=acc[x]; }
  const int s1 = log2 + 1; // HEVC: log2 + bitdepth - 9
  const int s2 = log2 + 6;
  static thread_local int16_t tt[5][64*64]; static thread_local bool ready[5]={};
  if(!ready[log2-2]){ for(int k=0;k<n;++k) for(int i=0;i<n;++i) tt[log2-2][i*n+k]=t[k*n+i]; ready[log2-2]=true; }
  const int16_t* q=tt[log2-2];
  for (int k=0;k<m;++k){ int acc[64]={0}; for(int i=0;i<n;++i){ const int w=(tmp[k*64+i]+(1<<(s1-1)))>>s1; const int16_t* p=q+i*n; for(int x=0;x<m;++x) acc[x]+=w*p[x];}
    for(int x=0;x<m;++x) c[k*n+x]=(acc[x]+(1<<(s2-1)))>>s2; }
}
}
