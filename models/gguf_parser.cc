#include "models/gguf_parser.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "io/base.h"
#include "kernels/dtype.h"
#include "models/foreign_formats.h"
#include "models/printable.h"

namespace weir {
namespace {

constexpr uint64_t kMagicHeadBytes = 512;
// Memory is set aside at once for counts up to this; beyond, it grows with what is really read.
constexpr uint64_t kTrustedCount = 1 << 19;

struct ForeignType {
  uint32_t id;
  absl::string_view name;
};

// Tensor types of ggml's type table that weir does not read.
constexpr ForeignType kForeignTypes[] = {
    {4, "Q4_2"},    {5, "Q4_3"},        {9, "Q8_1"},        {15, "Q8_K"},       {16, "IQ2_XXS"},
    {17, "IQ2_XS"}, {18, "IQ3_XXS"},    {19, "IQ1_S"},      {21, "IQ3_S"},      {22, "IQ2_S"},
    {24, "I8"},     {25, "I16"},        {26, "I32"},        {27, "I64"},        {28, "F64"},
    {29, "IQ1_M"},  {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"},   {33, "Q4_0_8_8"},   {34, "TQ1_0"},
    {35, "TQ2_0"},  {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"}, {40, "NVFP4"},
    {41, "Q1_0"},   {42, "Q2_0"}};

std::string ForeignTensorType(uint32_t id) {
  for (const ForeignType& type : kForeignTypes) {
    if (type.id == id) return std::string(type.name);
  }
  return absl::StrCat("number ", id, " (unknown)");
}

std::string SupportedTensorTypes() {
  return absl::StrJoin(AllDTypes(), ", ", [](std::string* out, const DTypeInfo& info) {
    out->append(info.name.data(), info.name.size());
  });
}

class GgufParser {
 public:
  explicit GgufParser(HeaderCursor& cursor) : cursor_(cursor) {}

  absl::StatusOr<TensorIndex> Parse();

 private:
  absl::Status ParseStart();  // magic, version, counts
  absl::Status ParseMetadata();
  absl::StatusOr<std::string> ParseName(absl::string_view what);
  absl::StatusOr<MetadataValue> ParseValue(uint32_t raw_type, const std::string& key);
  absl::StatusOr<MetadataValue> ParseArray(const std::string& key);
  absl::StatusOr<MetadataValue> ParseStrings(uint64_t count, const std::string& what);
  template <typename Stored, typename Kept>
  absl::StatusOr<MetadataValue> ParseNumbers(uint64_t count, const std::string& what);
  absl::StatusOr<MetadataValue> ParseBools(uint64_t count, const std::string& what);
  template <typename Stored, typename Kept>
  absl::StatusOr<MetadataValue> ParseNumber(const std::string& what);

  absl::Status ParseTensors();
  absl::StatusOr<TensorInfo> ParseTensor(uint64_t number);
  absl::Status SizeTensor(uint32_t type_id, TensorInfo* tensor) const;
  absl::Status PlaceTensors();
  absl::Status CheckOverlaps() const;

  absl::Status Bad(absl::string_view message) const {
    return absl::InvalidArgumentError(
        absl::StrCat(cursor_.path(), ": at offset ", cursor_.offset_bytes(), ", ", message,
                     ". The file is damaged or was written by a faulty converter; convert or "
                     "download the model again."));
  }
  absl::Status CheckHeaderSize() const {
    if (cursor_.offset_bytes() <= GgufLimits::kHeaderBytes) return absl::OkStatus();
    return Bad(absl::StrCat("the header exceeds ", FormatBytes(GgufLimits::kHeaderBytes)));
  }

  HeaderCursor& cursor_;
  TensorIndex index_;
  uint64_t tensor_count_ = 0;
  uint64_t entry_count_ = 0;
  uint64_t element_count_ = 0;  // of all arrays so far
  uint64_t alignment_bytes_ = kGgufDefaultAlignment;
};

absl::Status GgufParser::ParseStart() {
  const uint64_t head_bytes = std::min(kMagicHeadBytes, cursor_.file_bytes());
  {
    // A copy of the cursor, so that what follows starts at the first byte again.
    HeaderCursor probe = cursor_;
    absl::StatusOr<std::string_view> head = probe.Take(head_bytes, "the file's first bytes");
    if (!head.ok() && head_bytes >= 4) head = probe.Take(4, "the file's first bytes");
    if (!head.ok()) return head.status();
    WEIR_RETURN_IF_ERROR(CheckGgufMagic(*head, cursor_.file_bytes(), cursor_.path()));
  }
  WEIR_RETURN_IF_ERROR(cursor_.Take(4, "the magic").status());
  WEIR_ASSIGN_OR_RETURN(const uint32_t version, cursor_.TakeNumber<uint32_t>("the version"));
  if ((version & 0xffff) == 0 && version != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(cursor_.path(), " is a big-endian GGUF (version ", version >> 24,
                     "), made for machines such as IBM Z. Download or convert the little-endian "
                     "file: weights are read in place and never converted."));
  }
  if (version != 2 && version != 3) {
    return absl::InvalidArgumentError(absl::StrCat(
        cursor_.path(), " is a GGUF of version ", version, "; versions 2 and 3 can be read. ",
        version == 1 ? "Version 1 was in use for a few weeks of 2023: convert the model again."
                     : "Update weir, or convert the model again."));
  }
  index_.format = absl::StrCat("GGUF v", version);
  WEIR_ASSIGN_OR_RETURN(tensor_count_, cursor_.TakeNumber<uint64_t>("the number of tensors"));
  WEIR_ASSIGN_OR_RETURN(entry_count_, cursor_.TakeNumber<uint64_t>("the number of metadata keys"));
  // The least that one of each can take: a key of one byte with a byte; a name with one dimension.
  constexpr uint64_t kLeastEntryBytes = 8 + 1 + 4 + 1;
  constexpr uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;
  if (entry_count_ > std::min(GgufLimits::kKeys, cursor_.remaining_bytes() / kLeastEntryBytes)) {
    return Bad(absl::StrCat("the header announces ", entry_count_,
                            " metadata keys, more than the file can hold or than ",
                            GgufLimits::kKeys));
  }
  if (tensor_count_ >
      std::min(GgufLimits::kTensors, cursor_.remaining_bytes() / kLeastTensorBytes)) {
    return Bad(absl::StrCat("the header announces ", tensor_count_,
                            " tensors, more than the file can hold or than ",
                            GgufLimits::kTensors));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> GgufParser::ParseName(absl::string_view what) {
  WEIR_ASSIGN_OR_RETURN(const uint64_t bytes, cursor_.TakeNumber<uint64_t>(what));
  if (bytes == 0 || bytes > GgufLimits::kNameBytes) {
    return Bad(absl::StrCat(what, " has ", bytes, " bytes; 1 to ", GgufLimits::kNameBytes,
                            " are allowed"));
  }
  return cursor_.TakeString(bytes, what);
}

absl::Status GgufParser::ParseMetadata() {
  for (uint64_t i = 0; i < entry_count_; ++i) {
    WEIR_ASSIGN_OR_RETURN(const std::string key, ParseName("a metadata key"));
    if (index_.metadata.Has(key)) {
      return Bad(absl::StrCat("the metadata key \"", Printable(key), "\" appears twice"));
    }
    WEIR_ASSIGN_OR_RETURN(const uint32_t type, cursor_.TakeNumber<uint32_t>("a metadata type"));
    WEIR_ASSIGN_OR_RETURN(MetadataValue value, ParseValue(type, key));
    index_.metadata.Set(key, std::move(value));
    WEIR_RETURN_IF_ERROR(CheckHeaderSize());
  }
  constexpr std::string_view kAlignmentKey = "general.alignment";
  if (index_.metadata.Has(kAlignmentKey)) {
    WEIR_ASSIGN_OR_RETURN(alignment_bytes_, index_.metadata.GetUint(kAlignmentKey));
    if (alignment_bytes_ == 0 || (alignment_bytes_ & (alignment_bytes_ - 1)) != 0 ||
        alignment_bytes_ > GgufLimits::kAlignmentBytes) {
      return Bad(absl::StrCat("general.alignment is ", alignment_bytes_, "; a power of two up to ",
                              GgufLimits::kAlignmentBytes, " is expected"));
    }
  }
  return absl::OkStatus();
}

template <typename Stored, typename Kept>
absl::StatusOr<MetadataValue> GgufParser::ParseNumber(const std::string& what) {
  WEIR_ASSIGN_OR_RETURN(const Stored number, cursor_.TakeNumber<Stored>(what));
  return MetadataValue(static_cast<Kept>(number));
}

absl::StatusOr<MetadataValue> GgufParser::ParseValue(uint32_t raw_type, const std::string& key) {
  const std::string what = absl::StrCat("the value of \"", Printable(key), "\"");
  switch (static_cast<GgufType>(raw_type)) {
    case GgufType::kUint8:
      return ParseNumber<uint8_t, uint64_t>(what);
    case GgufType::kInt8:
      return ParseNumber<int8_t, int64_t>(what);
    case GgufType::kUint16:
      return ParseNumber<uint16_t, uint64_t>(what);
    case GgufType::kInt16:
      return ParseNumber<int16_t, int64_t>(what);
    case GgufType::kUint32:
      return ParseNumber<uint32_t, uint64_t>(what);
    case GgufType::kInt32:
      return ParseNumber<int32_t, int64_t>(what);
    case GgufType::kUint64:
      return ParseNumber<uint64_t, uint64_t>(what);
    case GgufType::kInt64:
      return ParseNumber<int64_t, int64_t>(what);
    case GgufType::kFloat32:
      return ParseNumber<float, double>(what);
    case GgufType::kFloat64:
      return ParseNumber<double, double>(what);
    case GgufType::kBool: {
      WEIR_ASSIGN_OR_RETURN(const uint8_t flag, cursor_.TakeNumber<uint8_t>(what));
      if (flag > 1) return Bad(absl::StrCat(what, " is a boolean of ", flag));
      return MetadataValue(flag == 1);
    }
    case GgufType::kString: {
      WEIR_ASSIGN_OR_RETURN(const uint64_t bytes, cursor_.TakeNumber<uint64_t>(what));
      if (bytes > GgufLimits::kHeaderBytes) {
        return Bad(absl::StrCat(what, " is a string of ", bytes, " bytes"));
      }
      WEIR_ASSIGN_OR_RETURN(std::string text, cursor_.TakeString(bytes, what));
      return MetadataValue(std::move(text));
    }
    case GgufType::kArray:
      return ParseArray(key);
  }
  return Bad(absl::StrCat(what, " has the unknown type ", raw_type));
}

absl::StatusOr<MetadataValue> GgufParser::ParseArray(const std::string& key) {
  const std::string what = absl::StrCat("the array \"", Printable(key), "\"");
  WEIR_ASSIGN_OR_RETURN(const uint32_t raw_type, cursor_.TakeNumber<uint32_t>(what));
  WEIR_ASSIGN_OR_RETURN(const uint64_t count, cursor_.TakeNumber<uint64_t>(what));
  const auto type = static_cast<GgufType>(raw_type);
  if (raw_type > static_cast<uint32_t>(GgufType::kFloat64)) {
    return Bad(absl::StrCat(what, " has elements of the unknown type ", raw_type));
  }
  if (type == GgufType::kArray) return Bad(absl::StrCat(what, " is an array of arrays"));
  if (count > GgufLimits::kArrayElements - element_count_) {
    return Bad(absl::StrCat(what, " has ", count, " elements; at most ", GgufLimits::kArrayElements,
                            " are read from all arrays of a file"));
  }
  element_count_ += count;
  // A string takes at least its length.
  const uint64_t least_bytes =
      count * std::max(GgufNumberBytes(type), uint64_t{1}) * (type == GgufType::kString ? 8 : 1);
  WEIR_RETURN_IF_ERROR(cursor_.CheckRemaining(least_bytes, what));
  if (cursor_.offset_bytes() + least_bytes > GgufLimits::kHeaderBytes) {
    return Bad(
        absl::StrCat(what, " makes the header exceed ", FormatBytes(GgufLimits::kHeaderBytes)));
  }
  switch (type) {
    case GgufType::kUint8:
      return ParseNumbers<uint8_t, int64_t>(count, what);
    case GgufType::kInt8:
      return ParseNumbers<int8_t, int64_t>(count, what);
    case GgufType::kUint16:
      return ParseNumbers<uint16_t, int64_t>(count, what);
    case GgufType::kInt16:
      return ParseNumbers<int16_t, int64_t>(count, what);
    case GgufType::kUint32:
      return ParseNumbers<uint32_t, int64_t>(count, what);
    case GgufType::kInt32:
      return ParseNumbers<int32_t, int64_t>(count, what);
    case GgufType::kUint64:
      return ParseNumbers<uint64_t, int64_t>(count, what);
    case GgufType::kInt64:
      return ParseNumbers<int64_t, int64_t>(count, what);
    case GgufType::kFloat32:
      return ParseNumbers<float, double>(count, what);
    case GgufType::kFloat64:
      return ParseNumbers<double, double>(count, what);
    case GgufType::kBool:
      return ParseBools(count, what);
    case GgufType::kString:
      return ParseStrings(count, what);
    case GgufType::kArray:
      break;
  }
  return Bad(absl::StrCat(what, " is of an unknown kind"));
}

template <typename Stored, typename Kept>
absl::StatusOr<MetadataValue> GgufParser::ParseNumbers(uint64_t count, const std::string& what) {
  std::vector<Kept> numbers;
  numbers.reserve(std::min(count, kTrustedCount));
  constexpr uint64_t kPerTake = HeaderCursor::kWindowBytes / sizeof(Stored) / 4;
  while (numbers.size() < count) {
    const uint64_t take = std::min(kPerTake, count - numbers.size());
    WEIR_ASSIGN_OR_RETURN(const std::string_view bytes, cursor_.Take(take * sizeof(Stored), what));
    for (uint64_t i = 0; i < take; ++i) {
      Stored number;
      std::memcpy(&number, bytes.data() + i * sizeof(Stored), sizeof(Stored));
      if constexpr (std::is_same_v<Stored, uint64_t>) {
        if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
          return Bad(absl::StrCat(what, " holds ", number, ", which is out of range"));
        }
      }
      numbers.push_back(static_cast<Kept>(number));
    }
  }
  return MetadataValue(std::move(numbers));
}

absl::StatusOr<MetadataValue> GgufParser::ParseBools(uint64_t count, const std::string& what) {
  std::vector<bool> flags;
  flags.reserve(std::min(count, kTrustedCount));
  while (flags.size() < count) {
    const uint64_t take = std::min(HeaderCursor::kWindowBytes / 4, count - flags.size());
    WEIR_ASSIGN_OR_RETURN(const std::string_view bytes, cursor_.Take(take, what));
    for (const char byte : bytes) {
      if (byte != 0 && byte != 1)
        return Bad(absl::StrCat(what, " holds a boolean of ", static_cast<int>(byte)));
      flags.push_back(byte == 1);
    }
  }
  return MetadataValue(std::move(flags));
}

absl::StatusOr<MetadataValue> GgufParser::ParseStrings(uint64_t count, const std::string& what) {
  StringTable strings;
  strings.Reserve(std::min(count, kTrustedCount));
  for (uint64_t i = 0; i < count; ++i) {
    WEIR_ASSIGN_OR_RETURN(const uint64_t bytes, cursor_.TakeNumber<uint64_t>(what));
    if (bytes > GgufLimits::kArrayStringBytes) {
      return Bad(absl::StrCat(what, " holds a string of ", bytes, " bytes; at most ",
                              GgufLimits::kArrayStringBytes, " are read"));
    }
    WEIR_ASSIGN_OR_RETURN(const std::string_view text, cursor_.Take(bytes, what));
    strings.Add(text);
    WEIR_RETURN_IF_ERROR(CheckHeaderSize());
  }
  strings.ShrinkToFit();
  return MetadataValue(std::move(strings));
}

absl::StatusOr<TensorInfo> GgufParser::ParseTensor(uint64_t number) {
  TensorInfo tensor;
  WEIR_ASSIGN_OR_RETURN(tensor.name, ParseName(absl::StrCat("the name of tensor ", number)));
  const std::string what = absl::StrCat("tensor \"", Printable(tensor.name), "\"");
  WEIR_ASSIGN_OR_RETURN(const uint32_t dimensions, cursor_.TakeNumber<uint32_t>(what));
  if (dimensions == 0 || dimensions > GgufLimits::kDimensions) {
    return Bad(absl::StrCat(what, " has ", dimensions, " dimensions; 1 to ",
                            GgufLimits::kDimensions, " are allowed"));
  }
  for (uint32_t i = 0; i < dimensions; ++i) {
    WEIR_ASSIGN_OR_RETURN(const uint64_t dim, cursor_.TakeNumber<uint64_t>(what));
    if (dim == 0) return Bad(absl::StrCat(what, " has a dimension of zero"));
    tensor.dims.push_back(dim);
  }
  WEIR_ASSIGN_OR_RETURN(const uint32_t type_id, cursor_.TakeNumber<uint32_t>(what));
  WEIR_RETURN_IF_ERROR(SizeTensor(type_id, &tensor));
  WEIR_ASSIGN_OR_RETURN(tensor.offset_bytes, cursor_.TakeNumber<uint64_t>(what));
  if (tensor.offset_bytes % alignment_bytes_ != 0) {
    return Bad(absl::StrCat(what, " begins at ", tensor.offset_bytes,
                            ", which is not a multiple of the alignment of ", alignment_bytes_));
  }
  return tensor;
}

absl::Status GgufParser::SizeTensor(uint32_t type_id, TensorInfo* tensor) const {
  const std::string what = absl::StrCat("tensor \"", Printable(tensor->name), "\"");
  const std::optional<DType> dtype = DTypeFromGgufId(type_id);
  if (!dtype.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(cursor_.path(), ": ", what, " is in the format ", ForeignTensorType(type_id),
                     ", which weir cannot read. Supported formats: ", SupportedTensorTypes(),
                     ". Choose a file in one of these."));
  }
  tensor->dtype = *dtype;
  const DTypeInfo& info = GetDTypeInfo(*dtype);
  uint64_t elements = 1;
  for (const uint64_t dim : tensor->dims) {
    if (!CheckedMul(elements, dim, &elements)) {
      return Bad(absl::StrCat(what, " has dimensions whose product overflows"));
    }
  }
  if (tensor->dims[0] % info.block_elements != 0) {
    return Bad(absl::StrCat(what, " has rows of ", tensor->dims[0],
                            " elements, not a multiple of the ", info.block_elements,
                            " in a block of ", AbslView(info.name)));
  }
  if (!CheckedMul(elements / info.block_elements, info.block_bytes, &tensor->bytes)) {
    return Bad(absl::StrCat(what, " has a size that overflows"));
  }
  return absl::OkStatus();
}

absl::Status GgufParser::ParseTensors() {
  index_.tensors.reserve(std::min(tensor_count_, kTrustedCount / 64));
  index_.by_name.reserve(std::min(tensor_count_, kTrustedCount / 64));
  for (uint64_t i = 0; i < tensor_count_; ++i) {
    WEIR_ASSIGN_OR_RETURN(TensorInfo tensor, ParseTensor(i));
    if (!index_.by_name.emplace(tensor.name, static_cast<uint32_t>(i)).second) {
      return Bad(absl::StrCat("the tensor \"", Printable(tensor.name), "\" appears twice"));
    }
    index_.tensors.push_back(std::move(tensor));
    WEIR_RETURN_IF_ERROR(CheckHeaderSize());
  }
  return absl::OkStatus();
}

absl::Status GgufParser::PlaceTensors() {
  const uint64_t data_offset = AlignUp(cursor_.offset_bytes(), alignment_bytes_);
  for (TensorInfo& tensor : index_.tensors) {
    uint64_t begin = 0;
    uint64_t end = 0;
    if (!CheckedAdd(data_offset, tensor.offset_bytes, &begin) ||
        !CheckedAdd(begin, tensor.bytes, &end)) {
      return Bad(
          absl::StrCat("tensor \"", Printable(tensor.name), "\" has an offset that overflows"));
    }
    if (end > cursor_.file_bytes()) {
      return absl::DataLossError(
          absl::StrCat(cursor_.path(), ": tensor \"", Printable(tensor.name), "\" lies at bytes ",
                       begin, " to ", end, ", but the file has only ", cursor_.file_bytes(),
                       ". The file is truncated (an interrupted download?); download it again."));
    }
    tensor.offset_bytes = begin;
  }
  return CheckOverlaps();
}

absl::Status GgufParser::CheckOverlaps() const {
  std::vector<const TensorInfo*> by_offset;
  by_offset.reserve(index_.tensors.size());
  for (const TensorInfo& tensor : index_.tensors) by_offset.push_back(&tensor);
  std::sort(by_offset.begin(), by_offset.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return a->offset_bytes < b->offset_bytes;
  });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const TensorInfo& before = *by_offset[i - 1];
    if (before.offset_bytes + before.bytes > by_offset[i]->offset_bytes) {
      return Bad(absl::StrCat("the tensors \"", Printable(before.name), "\" and \"",
                              Printable(by_offset[i]->name), "\" overlap"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorIndex> GgufParser::Parse() {
  index_.files.push_back({cursor_.path(), cursor_.file_bytes()});
  index_.metadata.source = cursor_.path();
  WEIR_RETURN_IF_ERROR(ParseStart());
  WEIR_RETURN_IF_ERROR(ParseMetadata());
  WEIR_RETURN_IF_ERROR(ParseTensors());
  WEIR_RETURN_IF_ERROR(PlaceTensors());
  return std::move(index_);
}

}  // namespace

uint64_t GgufNumberBytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

absl::StatusOr<TensorIndex> ParseGguf(HeaderCursor& cursor) { return GgufParser(cursor).Parse(); }

}  // namespace weir
