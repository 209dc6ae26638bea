// TensorConverter: fills in the pieces of a new GGUF file from the tensors of
// another, in the formats that the new one has: the middle of
// tools/quantize_model.h.
#ifndef WEIR_TOOLS_TENSOR_CONVERTER_H_
#define WEIR_TOOLS_TENSOR_CONVERTER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/file.h"
#include "kernels/device.h"
#include "models/gguf_writer.h"
#include "models/tensor_index.h"

namespace weir {

// One thread. While the workers convert a piece, this thread reads what the
// next one is made from; two pieces of the source are in memory.
class TensorConverter {
 public:
  // `source` and `layout` hold the same tensors in the same order and outlive
  // this.
  static absl::StatusOr<std::unique_ptr<TensorConverter>> Make(const TensorIndex& source,
                                                               const GgufLayout& layout,
                                                               uint32_t threads,
                                                               const std::string& isa);

  // As FillTensor of models/gguf_writer.h. After a failure, which status()
  // tells, it does nothing.
  void Fill(size_t tensor, uint64_t offset_bytes, absl::Span<uint8_t> out);
  const absl::Status& status() const { return status_; }
  // DataLoss when the source was changed since it was opened.
  absl::Status CheckUnchanged() const;

 private:
  // Part of a tensor of the new file: whole blocks of it.
  struct Piece {
    size_t tensor = 0;
    uint64_t begin = 0;  // elements
    uint64_t end = 0;
  };

  TensorConverter(const TensorIndex& source, const GgufLayout& layout)
      : source_(source), layout_(layout) {}
  Piece PieceAt(size_t tensor, uint64_t offset_bytes) const;
  // Source bytes of a piece, from the block that its first element lies in.
  absl::Status Read(const Piece& piece, std::vector<uint8_t>* bytes) const;
  void ReadAhead(const Piece& after);
  absl::Status Convert(const Piece& piece, absl::Span<uint8_t> out);
  absl::Status BadValue(const Piece& piece, uint64_t element) const;

  const TensorIndex& source_;
  const GgufLayout& layout_;
  std::vector<std::unique_ptr<File>> files_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::vector<uint8_t> bytes_;  // of the piece that is converted
  std::vector<uint8_t> ahead_;  // of the next one, where has_ahead_
  bool has_ahead_ = false;
  absl::Status ahead_status_;
  absl::Status status_;
};

}  // namespace weir

#endif  // WEIR_TOOLS_TENSOR_CONVERTER_H_
