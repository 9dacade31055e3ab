// JPEG files taken apart and put together, and payloads of any skeleton, padding and coefficients.
//
//   any file      is not modelled, or what is put together of its parts is a file (it may be another: the
//                 encoder's choices), and that one survives
//   any payload   is refused, or makes a file of the size that it says
//
// Files that survive: sequential ones. A progressive script may refine what it never sent.

#include "harness.hpp"
#include "recompress.hpp"

using namespace fuzz;
using ncodec::jpeg::Parts;
using JpegStatus = ncodec::jpeg::Status;

constexpr uint64_t MOST_BLOCKS = 1 << 14;  // 2 MiB of coefficients

static JpegStatus put_together(const Parts& parts, size_t size, std::vector<uint8_t>& file) {
  file.clear();
  return ncodec::jpeg::put_together({parts.skeleton.data(), parts.skeleton.size()},
                                    {parts.padding.data(), parts.padding.size()},
                                    {parts.coded.data(), parts.coded.size()}, size, MOST_BLOCKS, file);
}

static bool is_sequential(const std::vector<uint8_t>& skeleton) {
  for (size_t i = 0; i + 1 < skeleton.size(); ++i) {
    if (skeleton[i] == 0xFF && skeleton[i + 1] == 0xC2) return false;
  }
  return true;
}

static void check_file(const std::vector<uint8_t>& bytes) {
  std::unique_ptr<uint8_t[]> data(new uint8_t[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), data.get());
  Parts parts;
  if (ncodec::jpeg::take_apart(data.get(), bytes.size(), MOST_BLOCKS, parts) != JpegStatus::ok) return;
  std::vector<uint8_t> file;
  const JpegStatus status = put_together(parts, bytes.size(), file);
  require(status == JpegStatus::ok || status == JpegStatus::no_code || status == JpegStatus::wrong_size,
          "parts are those of a file");
  require(status != JpegStatus::ok || file.size() == bytes.size(), "a file has the size that was asked for");
  if (status != JpegStatus::ok || !is_sequential(parts.skeleton)) return;
  Parts again;
  require(ncodec::jpeg::take_apart(file.data(), file.size(), MOST_BLOCKS, again) == JpegStatus::ok,
          "a file can be taken apart");
  require(again.skeleton == parts.skeleton && again.coded == parts.coded, "with the same parts");
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Source source(data, size);
  if (source.u8() & 1) {
    std::vector<uint8_t> file = source.rest();
    check_file(file);
    return 0;
  }
  Parts parts;
  const size_t file_size = source.u16() * 8u;
  size_t n_skeleton = source.u16(), n_padding = source.u8() & 1 ? source.u8() : 0;
  const std::vector<uint8_t> rest = source.rest();
  n_skeleton = std::min(n_skeleton, rest.size());
  n_padding = std::min(n_padding, rest.size() - n_skeleton);
  const auto at = rest.begin() + static_cast<std::ptrdiff_t>(n_skeleton),
             coded = at + static_cast<std::ptrdiff_t>(n_padding);
  parts.skeleton.assign(rest.begin(), at);
  parts.padding.assign(at, coded);
  parts.coded.assign(coded, rest.end());
  std::vector<uint8_t> file;
  if (put_together(parts, file_size, file) == JpegStatus::ok)
    require(file.size() == file_size, "a file has the size that was asked for");
  return 0;
}
