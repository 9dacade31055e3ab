// Python types in and out of binary.hpp, and its errors as ncodec's exceptions. No coding here.

#include <memory>

#include "binary.hpp"
#include "bindings.hpp"

using namespace ncodec;

using Bins = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const uint16_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// What both directions share: the contexts.
class BinaryStream : protected Stream {
 public:
  explicit BinaryStream(int64_t n_contexts) {
    if (n_contexts < 0 || static_cast<uint64_t>(n_contexts) > MAX_CONTEXTS)
      raise("InputError", "n_contexts: expected 0 to 65535, found " + std::to_string(n_contexts));
    contexts_.resize(static_cast<size_t>(n_contexts));
  }

 protected:
  void check(BinaryStatus status, size_t place, size_t n) const {
    const std::string at = "bin " + std::to_string(place) + " of " + std::to_string(n) + ": ";
    switch (status) {
      case BinaryStatus::ok: return;
      case BinaryStatus::not_a_bin: raise("InputError", at + "expected 0 or 1");
      case BinaryStatus::context_out_of_range:
        raise("InputError",
              at + "expected a context below " + std::to_string(contexts_.size()) + ", or 65535 for bypass");
      case BinaryStatus::truncated: raise("TruncatedError", "the payload ends before the last bin");
      case BinaryStatus::left_over: raise("CorruptPayloadError", "bytes are left over after the last bin");
      case BinaryStatus::bad_end:
        raise("CorruptPayloadError",
              "the last byte is not the smallest in the final interval, as the encoder makes it");
    }
  }

  std::vector<BinaryContext> contexts_;
};

class EncoderStream : BinaryStream {
 public:
  using BinaryStream::BinaryStream;

  // All of the input is checked first: after an error nothing is coded.
  void encode(Bins bins, Numbers numbers) {
    const Use use(*this);
    const size_t n = bins.shape(0);
    if (numbers.shape(0) != n)
      raise("InputError",
            "contexts: expected one per bin, " + std::to_string(n) + ", found " + std::to_string(numbers.shape(0)));
    size_t place = 0;
    BinaryStatus status;
    {
      nb::gil_scoped_release release;
      status = check_bins(bins.data(), n, place);
      if (status == BinaryStatus::ok) status = check_contexts(numbers.data(), n, contexts_.size(), place);
      if (status == BinaryStatus::ok) {
        is_finished_ = true;  // should memory run out
        status = encode_bins(coder_, contexts_, bins.data(), numbers.data(), n, place);
        is_finished_ = false;
      }
    }
    check(status, place, n);
  }

  nb::bytes finish() {
    const Use use(*this);
    is_finished_ = true;
    const std::vector<uint8_t> payload = coder_.finish();
    return nb::bytes(payload.data(), payload.size());
  }

 private:
  BinaryEncoder coder_;
};

class DecoderStream : BinaryStream {
 public:
  DecoderStream(nb::bytes payload, int64_t n_contexts)
      : BinaryStream(n_contexts),
        payload_(std::move(payload)),
        coder_(static_cast<const uint8_t*>(payload_.data()), payload_.size()) {}

  nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> decode(Numbers numbers) {
    const Use use(*this);
    const size_t n = numbers.shape(0);
    std::unique_ptr<uint8_t[]> bins(new uint8_t[n]);
    size_t place = 0;
    BinaryStatus status;
    {
      nb::gil_scoped_release release;
      status = check_contexts(numbers.data(), n, contexts_.size(), place);
      if (status == BinaryStatus::ok) status = decode_bins(coder_, contexts_, numbers.data(), n, bins.get(), place);
    }
    check(status, place, n);
    uint8_t* raw = bins.release();
    nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<uint8_t*>(p); });
    return nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>>(raw, {n}, owner);
  }

  void finish() {
    const Use use(*this);
    is_finished_ = true;
    check(coder_.finish(), 0, 0);
  }

 private:
  nb::bytes payload_;  // keeps the bytes alive
  BinaryDecoder coder_;
};

void bind_binary(nb::module_& m) {
  nb::class_<EncoderStream>(m, "BinaryEncoder")
      .def(nb::init<int64_t>(), nb::arg("n_contexts"))
      .def("encode", &EncoderStream::encode, nb::arg("bins").noconvert(), nb::arg("contexts").noconvert())
      .def("finish", &EncoderStream::finish);
  nb::class_<DecoderStream>(m, "BinaryDecoder")
      .def(nb::init<nb::bytes, int64_t>(), nb::arg("payload"), nb::arg("n_contexts"))
      .def("decode", &DecoderStream::decode, nb::arg("contexts").noconvert())
      .def("finish", &DecoderStream::finish);
}
