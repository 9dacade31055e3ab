// The turn of a picture's planes (specs/dct.md section 8): from their principal axes to those that take the fewest
// bits.
//
//   planes --8x8--> covariances --sum--> eigenvectors --> axes of fewest bits --> quaternion

#pragma once

#include <cmath>
#include <utility>

#include "samples.hpp"

namespace ncodec::dct {

using Matrix3 = std::array<std::array<double, 3>, 3>;

// Of each 8x8 of three planes.
inline std::vector<Matrix3> covariances_of(const std::array<Plane, 3>& planes) {
  std::vector<Matrix3> out;
  for (int y = 0; y < planes[0].height; y += 8)
    for (int x = 0; x < planes[0].width; x += 8) {
      int sum[3] = {}, product[3][3] = {};
      for (int i = 0; i < 3; ++i)
        for (int v = 0; v < 8; ++v) {
          const int16_t* p = planes[i].at(x, y + v);
          for (int u = 0; u < 8; ++u) sum[i] += p[u];
          for (int j = 0; j <= i; ++j) {
            const int16_t* q = planes[j].at(x, y + v);
            for (int u = 0; u < 8; ++u) product[i][j] += p[u] * q[u];
          }
        }
      Matrix3 m;
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j <= i; ++j) m[i][j] = m[j][i] = product[i][j] - sum[i] * (sum[j] / 64.0);
      out.push_back(m);
    }
  return out;
}

// Eigenvectors of a symmetric matrix, in columns, the largest first (Jacobi 1846).
inline Matrix3 eigenvectors_of(Matrix3 m) {
  Matrix3 v = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  for (int round = 0; round < 12; ++round)
    for (const auto& [p, q] : {std::pair{0, 1}, std::pair{0, 2}, std::pair{1, 2}}) {
      if (m[p][q] == 0) continue;
      const double angle = 0.5 * std::atan2(2 * m[p][q], m[p][p] - m[q][q]), c = std::cos(angle), s = std::sin(angle);
      const auto rotate = [&](double& a, double& b) {
        const double before = a;
        a = c * before + s * b;
        b = c * b - s * before;
      };
      for (int k = 0; k < 3; ++k) rotate(m[k][p], m[k][q]);
      for (int k = 0; k < 3; ++k) rotate(m[p][k], m[q][k]);
      for (int k = 0; k < 3; ++k) rotate(v[k][p], v[k][q]);
    }
  int order[3] = {0, 1, 2};
  std::sort(order, order + 3, [&](int a, int b) { return m[a][a] > m[b][b]; });
  Matrix3 sorted;
  for (int k = 0; k < 3; ++k)
    for (int i = 0; i < 3; ++i) sorted[k][i] = v[k][order[i]];
  return sorted;
}

// The turn that makes planes what they are along axes, in columns. Of the signs that these may have, those that turn
// least: then 128 is the largest of the quaternion.
inline Turn turn_to(Matrix3 axes) {
  const auto& a = axes;
  const double determinant = a[0][0] * (a[1][1] * a[2][2] - a[1][2] * a[2][1]) -
                             a[0][1] * (a[1][0] * a[2][2] - a[1][2] * a[2][0]) +
                             a[0][2] * (a[1][0] * a[2][1] - a[1][1] * a[2][0]);
  for (int k = 0; k < 3; ++k) axes[k][2] *= determinant < 0 ? -1 : 1;
  Turn turn = {};
  double most = 0;
  for (const auto& sign : {std::array{1, 1, 1}, std::array{1, -1, -1}, std::array{-1, 1, -1}, std::array{-1, -1, 1}}) {
    Matrix3 r;  // rotation[plane of the tile][plane of the weights]
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) r[i][j] = sign[i] * axes[j][i];
    const double square = 1 + r[0][0] + r[1][1] + r[2][2];  // 4 w^2 of the quaternion w, x, y, z
    if (square <= most) continue;
    most = square;
    const double imaginary[3] = {r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]};  // 4 w x, 4 w y, 4 w z
    for (int k = 0; k < 3; ++k)
      turn[k] = static_cast<int8_t>(std::clamp(std::lround(128 * imaginary[k] / square), -127L, 127L));
  }
  return turn;
}

// About the bits that planes take, each 8x8 by itself; `noise`: the variance of their errors.
inline double bits_of(const std::vector<Matrix3>& covariances, const Matrix3& axes, double noise) {
  double bits = 0, product = 1;
  const auto take = [&] {  // half of each sample's, as prediction leaves about half
    bits += 16 * std::log2(product);
    product = 1;
  };
  for (const Matrix3& m : covariances) {
    for (int p = 0; p < 3; ++p) {
      double energy = 0;
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) energy += axes[i][p] * m[i][j] * axes[j][p];
      product *= 1 + energy / (64 * noise);
    }
    if (product > 1e200) take();  // those of one block are below 1e30
  }
  take();
  return bits;
}

// Axes that take fewer bits, if there are any near by: pairs of them turned by ever smaller angles.
inline Matrix3 improved(Matrix3 axes, const std::vector<Matrix3>& covariances, double noise) {
  double least = bits_of(covariances, axes, noise);
  for (double angle = 0.16; angle > 0.01; angle /= 2)
    for (const auto& [p, q] : {std::pair{0, 1}, std::pair{0, 2}, std::pair{1, 2}})
      for (const double sine : {std::sin(angle), -std::sin(angle)}) {
        Matrix3 other = axes;
        for (int i = 0; i < 3; ++i) {
          other[i][p] = std::cos(angle) * axes[i][p] + sine * axes[i][q];
          other[i][q] = std::cos(angle) * axes[i][q] - sine * axes[i][p];
        }
        const double bits = bits_of(covariances, other, noise);
        if (bits < least) least = bits, axes = other;
      }
  return axes;
}

// The best turn of planes, none if it is not worth its bytes.
inline Turn best_turn(const std::array<Plane, 3>& planes, double step) {
  const std::vector<Matrix3> covariances = covariances_of(planes);
  Matrix3 sum = {};
  for (const Matrix3& m : covariances)
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) sum[i][j] += m[i][j];
  const Matrix3 same = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  const double noise = step * step / 12;
  const Matrix3 axes = improved(eigenvectors_of(sum), covariances, noise);
  const Turn turn = turn_to(axes);
  const bool is_worth = bits_of(covariances, same, noise) > bits_of(covariances, axes, noise) + 8.0 * turn.size();
  return is_worth ? turn : Turn{};
}

}  // namespace ncodec::dct
