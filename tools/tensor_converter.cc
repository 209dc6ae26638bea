#include "tools/tensor_converter.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/cpu_device.h"
#include "kernels/dequantize.h"
#include "kernels/quant_blocks.h"
#include "kernels/quantize_blocks.h"
#include "tools/exit_codes.h"

namespace weir {
namespace {

// Elements that a worker converts at once: with what a block of the source adds
// at either end they fit its scratch memory as floats. A multiple of every
// block.
constexpr uint64_t kChunk = 32768;
static_assert((kChunk + 2 * kSuperBlock) * sizeof(float) <= CpuStream::kScratchBytes);

constexpr uint64_t kNone = ~uint64_t{0};

uint64_t BlockElements(DType dtype) { return GetDTypeInfo(dtype).block_elements; }

// Shared by the workers of one piece.
struct ConvertJob {
  DType source_dtype, dtype;
  const uint8_t* source;                     // the block that element `first` begins
  uint64_t first;                            // elements of the tensor, as the next two
  uint64_t begin, end;                       // what is to be converted
  uint8_t* out;                              // for `begin`
  std::atomic<uint64_t> bad_element{kNone};  // the first that the format cannot hold
};

void ConvertChunk(ConvertJob& job, uint64_t begin, uint64_t end, float* floats) {
  const uint64_t block = BlockElements(job.source_dtype);
  const uint64_t from = AlignDown(begin, block);
  const uint64_t to = AlignUp(end, block);
  const uint8_t* source = job.source + RowBytes(job.source_dtype, from - job.first);
  DequantizeRow(job.source_dtype, source, to - from, floats);
  const float* values = floats + (begin - from);
  const uint64_t good = FindUnquantizable(job.dtype, values, end - begin);
  if (good != end - begin) {
    uint64_t known = job.bad_element.load();
    while (begin + good < known && !job.bad_element.compare_exchange_weak(known, begin + good)) {
    }
    return;
  }
  QuantizeRow(job.dtype, values, end - begin, job.out + RowBytes(job.dtype, begin - job.begin));
}

struct ConvertKernel {
  ConvertJob* job;
  void operator()(uint32_t worker, uint32_t, CpuStream& stream) const {
    const uint64_t elements = job->end - job->begin;
    stream.ranges().Begin(worker, static_cast<uint32_t>(CeilDiv(elements, kChunk)));
    auto* floats = reinterpret_cast<float*>(stream.scratch(worker));
    WorkRange range;
    while (stream.ranges().Take(worker, {.least = 1, .most = 1}, &range)) {
      const uint64_t begin = job->begin + range.begin * kChunk;
      ConvertChunk(*job, begin, std::min(job->end, begin + kChunk), floats);
    }
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<TensorConverter>> TensorConverter::Make(const TensorIndex& source,
                                                                       const GgufLayout& layout,
                                                                       uint32_t threads,
                                                                       const std::string& isa) {
  WEIR_CHECK(source.tensors.size() == layout.tensors.size());
  std::unique_ptr<TensorConverter> converter(new TensorConverter(source, layout));
  for (const ModelFile& file : source.files) {
    absl::StatusOr<std::unique_ptr<File>> opened = File::Open(file.path, FileMode::kBuffered);
    if (!opened.ok()) return WithExitCode(ExitCode::kBadModel, opened.status());
    converter->files_.push_back(*std::move(opened));
  }
  absl::StatusOr<std::unique_ptr<Device>> device = MakeCpuDevice({.threads = threads, .isa = isa});
  if (!device.ok()) {
    const bool is_option = absl::IsInvalidArgument(device.status());
    return WithExitCode(is_option ? ExitCode::kUsage : ExitCode::kDevice, device.status());
  }
  converter->device_ = *std::move(device);
  converter->stream_ = converter->device_->NewStream();
  return converter;
}

TensorConverter::Piece TensorConverter::PieceAt(size_t tensor, uint64_t offset_bytes) const {
  const TensorInfo& target = layout_.tensors[tensor];
  const DTypeInfo& dtype = GetDTypeInfo(target.dtype);
  const uint64_t bytes = std::min(GgufPieceBytes(target.dtype), target.bytes - offset_bytes);
  const uint64_t begin = offset_bytes / dtype.block_bytes * dtype.block_elements;
  return {tensor, begin, begin + bytes / dtype.block_bytes * dtype.block_elements};
}

absl::Status TensorConverter::Read(const Piece& piece, std::vector<uint8_t>* bytes) const {
  const TensorInfo& tensor = source_.tensors[piece.tensor];
  const uint64_t block = BlockElements(tensor.dtype);
  const uint64_t begin_bytes = RowBytes(tensor.dtype, AlignDown(piece.begin, block));
  const uint64_t end_bytes = RowBytes(tensor.dtype, AlignUp(piece.end, block));
  bytes->resize(end_bytes - begin_bytes);
  return WithExitCode(
      ExitCode::kIo,
      files_[tensor.file]->ReadExactly(tensor.offset_bytes + begin_bytes, absl::MakeSpan(*bytes)));
}

void TensorConverter::ReadAhead(const Piece& after) {
  const TensorInfo& target = layout_.tensors[after.tensor];
  const uint64_t end_bytes = RowBytes(target.dtype, after.end);
  const bool is_last = end_bytes == target.bytes;
  if (is_last && after.tensor + 1 == layout_.tensors.size()) return;
  const Piece next = is_last ? PieceAt(after.tensor + 1, 0) : PieceAt(after.tensor, end_bytes);
  ahead_status_ = Read(next, &ahead_);
  has_ahead_ = true;
}

absl::Status TensorConverter::BadValue(const Piece& piece, uint64_t element) const {
  const TensorInfo& tensor = source_.tensors[piece.tensor];
  const uint64_t block = BlockElements(tensor.dtype);
  const uint64_t first = AlignDown(element, block);
  const uint64_t at = RowBytes(tensor.dtype, first - AlignDown(piece.begin, block));
  std::vector<float> values(block);
  DequantizeRow(tensor.dtype, bytes_.data() + at, block, values.data());
  const DType dtype = layout_.tensors[piece.tensor].dtype;
  return WithExitCode(
      ExitCode::kBadModel,
      absl::InvalidArgumentError(
          absl::StrCat(source_.files[tensor.file].path, ": the tensor ", tensor.name, " holds ",
                       values[element - first], " in row ", element / tensor.columns(), ", column ",
                       element % tensor.columns(), ", which ", AbslView(GetDTypeInfo(dtype).name),
                       " cannot hold: up to ", LargestQuantizable(dtype),
                       ". If it is finite, choose F32 or BF16; if not, the model is "
                       "damaged: download or "
                       "convert it again.")));
}

absl::Status TensorConverter::Convert(const Piece& piece, absl::Span<uint8_t> out) {
  if (has_ahead_) {
    WEIR_RETURN_IF_ERROR(ahead_status_);
    std::swap(bytes_, ahead_);
  } else {
    WEIR_RETURN_IF_ERROR(Read(piece, &bytes_));
  }
  has_ahead_ = false;
  const TensorInfo& tensor = source_.tensors[piece.tensor];
  const DType dtype = layout_.tensors[piece.tensor].dtype;
  if (dtype == tensor.dtype) {  // as it is, whatever it holds
    WEIR_CHECK(bytes_.size() == out.size());
    std::memcpy(out.data(), bytes_.data(), out.size());
    ReadAhead(piece);
    return absl::OkStatus();
  }
  ConvertJob job;
  job.source_dtype = tensor.dtype;
  job.dtype = dtype;
  job.source = bytes_.data();
  job.first = AlignDown(piece.begin, BlockElements(tensor.dtype));
  job.begin = piece.begin;
  job.end = piece.end;
  job.out = out.data();
  static_cast<CpuStream&>(*stream_).Launch(ConvertKernel{&job});
  const Event converted = stream_->Record();
  ReadAhead(piece);
  stream_->Wait(converted);
  if (job.bad_element.load() != kNone) return BadValue(piece, job.bad_element.load());
  return absl::OkStatus();
}

void TensorConverter::Fill(size_t tensor, uint64_t offset_bytes, absl::Span<uint8_t> out) {
  if (!status_.ok()) return;
  status_ = Convert(PieceAt(tensor, offset_bytes), out);
}

absl::Status TensorConverter::CheckUnchanged() const {
  for (const std::unique_ptr<File>& file : files_) {
    WEIR_RETURN_IF_ERROR(WithExitCode(ExitCode::kIo, file->CheckUnchanged()));
  }
  return absl::OkStatus();
}

}  // namespace weir
