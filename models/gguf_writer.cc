#include "models/gguf_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "io/base.h"
#include "io/scratch_space.h"
#include "models/gguf_parser.h"

namespace weir {
namespace {

constexpr uint64_t kPieceBytes = kMiB;

// ---- the header
// -----------------------------------------------------------------------------------

class HeaderWriter {
 public:
  template <typename T>
  void Number(T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    bytes_.append(bytes, sizeof(T));
  }
  void Type(GgufType type) { Number(static_cast<uint32_t>(type)); }
  void Text(std::string_view text) {
    Number(uint64_t{text.size()});
    bytes_.append(text);
  }
  void Raw(std::string_view bytes) { bytes_.append(bytes); }
  void Array(GgufType type, uint64_t count) {
    Type(GgufType::kArray);
    Type(type);
    Number(count);
  }
  uint64_t size() const { return bytes_.size(); }
  std::string Take() { return std::move(bytes_); }
  void PadTo(uint64_t alignment_bytes) { bytes_.resize(AlignUp(bytes_.size(), alignment_bytes)); }

  void Value(const std::string& key, const MetadataValue& value);

 private:
  void Integer(int64_t value);
  void Natural(const std::string& key, uint64_t value);
  void Integers(const std::vector<int64_t>& values);

  std::string bytes_;
};

bool FitsInt32(int64_t value) {
  return value >= std::numeric_limits<int32_t>::min() &&
         value <= std::numeric_limits<int32_t>::max();
}

void HeaderWriter::Natural(const std::string& key, uint64_t value) {
  if (key == "split.no" || key == "split.count") {
    Type(GgufType::kUint16);
    Number(static_cast<uint16_t>(value));
  } else if (key == "split.tensors.count") {
    Type(GgufType::kInt32);
    Number(static_cast<int32_t>(value));
  } else if (value <= std::numeric_limits<uint32_t>::max()) {
    Type(GgufType::kUint32);
    Number(static_cast<uint32_t>(value));
  } else {
    Type(GgufType::kUint64);
    Number(value);
  }
}

void HeaderWriter::Integer(int64_t value) {
  if (FitsInt32(value)) {
    Type(GgufType::kInt32);
    Number(static_cast<int32_t>(value));
  } else {
    Type(GgufType::kInt64);
    Number(value);
  }
}

void HeaderWriter::Integers(const std::vector<int64_t>& values) {
  if (std::all_of(values.begin(), values.end(), FitsInt32)) {
    Array(GgufType::kInt32, values.size());
    for (const int64_t value : values) Number(static_cast<int32_t>(value));
  } else {
    Array(GgufType::kInt64, values.size());
    for (const int64_t value : values) Number(value);
  }
}

void HeaderWriter::Value(const std::string& key, const MetadataValue& value) {
  if (const auto* natural = std::get_if<uint64_t>(&value)) {
    Natural(key, *natural);
  } else if (const auto* integer = std::get_if<int64_t>(&value)) {
    Integer(*integer);
  } else if (const auto* number = std::get_if<double>(&value)) {
    Type(GgufType::kFloat32);
    Number(static_cast<float>(*number));
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    Type(GgufType::kBool);
    Number(static_cast<uint8_t>(*flag ? 1 : 0));
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    Type(GgufType::kString);
    Text(*text);
  } else if (const auto* strings = std::get_if<StringTable>(&value)) {
    Array(GgufType::kString, strings->size());
    for (size_t i = 0; i < strings->size(); ++i) Text((*strings)[i]);
  } else if (const auto* integers = std::get_if<std::vector<int64_t>>(&value)) {
    Integers(*integers);
  } else if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
    Array(GgufType::kFloat32, numbers->size());
    for (const double element : *numbers) Number(static_cast<float>(element));
  } else if (const auto* flags = std::get_if<std::vector<bool>>(&value)) {
    Array(GgufType::kBool, flags->size());
    for (const bool element : *flags) Number(static_cast<uint8_t>(element ? 1 : 0));
  }
}

absl::Status PlaceTensor(const GgufTensor& tensor, TensorInfo* info) {
  const DTypeInfo& dtype = GetDTypeInfo(tensor.dtype);
  uint64_t elements = 1;
  bool valid = !tensor.dims.empty() && tensor.dims.size() <= GgufLimits::kDimensions;
  for (const uint64_t dim : tensor.dims) {
    valid = valid && dim > 0 && CheckedMul(elements, dim, &elements);
  }
  if (!valid || tensor.dims[0] % dtype.block_elements != 0 ||
      !CheckedMul(elements / dtype.block_elements, dtype.block_bytes, &info->bytes)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the tensor ", tensor.name, " cannot be written in ", AbslView(dtype.name),
        ": its rows of ", tensor.dims.empty() ? 0 : tensor.dims[0],
        " elements must be a multiple of ", dtype.block_elements, ", and its size fit 64 bits"));
  }
  info->name = tensor.name;
  info->dtype = tensor.dtype;
  info->dims = tensor.dims;
  return absl::OkStatus();
}

// ---- the file
// -------------------------------------------------------------------------------------

// A file under a temporary name, removed unless committed.
class PartialFile {
 public:
  static absl::StatusOr<PartialFile> Create(const std::string& path);
  PartialFile(PartialFile&& other) noexcept
      : path_(std::move(other.path_)),
        temporary_(std::move(other.temporary_)),
        descriptor_(std::exchange(other.descriptor_, -1)) {}
  ~PartialFile() {
    if (descriptor_ < 0) return;
    close(descriptor_);
    unlink(temporary_.c_str());
  }

  absl::Status Append(absl::string_view bytes, uint64_t total_bytes);
  absl::Status Commit(const GgufWriteOptions& options);

 private:
  PartialFile() = default;
  absl::Status Failure(absl::string_view what, int error) const {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot ", what, " ", path_));
  }

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
  uint64_t written_bytes_ = 0;
};

std::string FolderOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

absl::Status DiskFull(const std::string& path, uint64_t total_bytes, uint64_t free_bytes) {
  return absl::ResourceExhaustedError(absl::StrCat(
      "cannot write ", path, ": it needs ", FormatBytes(total_bytes), " (", total_bytes,
      " bytes), but the disk has ", FormatBytes(free_bytes), " (", free_bytes,
      " bytes) free. Make room, or choose another disk or a smaller model."));
}

absl::StatusOr<PartialFile> PartialFile::Create(const std::string& path) {
  PartialFile file;
  file.path_ = path;
  file.temporary_ = absl::StrCat(path, ".", getpid(), ".partial");
  file.descriptor_ = open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file.descriptor_ < 0) return file.Failure("create", errno);
  return file;
}

absl::Status PartialFile::Append(absl::string_view bytes, uint64_t total_bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = write(descriptor_, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0 && (errno == ENOSPC || errno == EDQUOT)) {
      WEIR_ASSIGN_OR_RETURN(const uint64_t free_bytes, FreeDiskBytes(FolderOf(path_)));
      return DiskFull(path_, total_bytes, free_bytes + written_bytes_);
    }
    if (wrote < 0) return Failure("write", errno);
    bytes.remove_prefix(static_cast<size_t>(wrote));
    written_bytes_ += static_cast<uint64_t>(wrote);
  }
  return absl::OkStatus();
}

absl::Status PartialFile::Commit(const GgufWriteOptions& options) {
  if (options.sync && fsync(descriptor_) != 0) return Failure("write to disk", errno);
  const unsigned flags = options.overwrite ? 0 : RENAME_NOREPLACE;
  int result = renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), flags);
  // Some file systems know no flags; the earlier look for the file must do there.
  if (result != 0 && errno == EINVAL) result = std::rename(temporary_.c_str(), path_.c_str());
  if (result != 0) return Failure("rename to", errno);
  close(std::exchange(descriptor_, -1));
  if (options.sync) {
    const int folder = open(FolderOf(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
      fsync(folder);  // some file systems cannot; the file itself is safe
      close(folder);
    }
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t GgufPieceBytes(DType dtype) {
  const uint64_t block_bytes = GetDTypeInfo(dtype).block_bytes;
  return kPieceBytes / block_bytes * block_bytes;
}

absl::StatusOr<GgufLayout> LayOutGguf(const Metadata& metadata,
                                      absl::Span<const GgufTensor> tensors,
                                      const GgufLayoutOptions& options) {
  WEIR_CHECK(options.alignment_bytes != 0 &&
             (options.alignment_bytes & (options.alignment_bytes - 1)) == 0);
  const bool writes_alignment =
      options.alignment_bytes != kGgufDefaultAlignment && !metadata.Has("general.alignment");
  GgufLayout layout;
  HeaderWriter header;
  header.Raw("GGUF");
  header.Number(options.version);
  header.Number(uint64_t{tensors.size()});
  header.Number(metadata.entries().size() + options.entries.count +
                uint64_t{writes_alignment ? 1u : 0u});
  if (writes_alignment) {
    header.Text("general.alignment");
    header.Value("general.alignment", MetadataValue(options.alignment_bytes));
  }
  for (const auto& [key, value] : metadata.entries()) {
    header.Text(key);
    header.Value(key, value);
  }
  header.Raw(options.entries.bytes);
  uint64_t data_bytes = 0;
  for (const GgufTensor& tensor : tensors) {
    TensorInfo info;
    WEIR_RETURN_IF_ERROR(PlaceTensor(tensor, &info));
    info.offset_bytes = data_bytes;
    header.Text(tensor.name);
    header.Number(static_cast<uint32_t>(tensor.dims.size()));
    for (const uint64_t dim : tensor.dims) header.Number(dim);
    header.Number(GetDTypeInfo(tensor.dtype).gguf_id);
    header.Number(data_bytes);
    if (!CheckedAdd(data_bytes, AlignUp(info.bytes, options.alignment_bytes), &data_bytes)) {
      return absl::InvalidArgumentError("the tensors' size overflows");
    }
    layout.tensors.push_back(std::move(info));
  }
  header.PadTo(options.alignment_bytes);
  for (TensorInfo& tensor : layout.tensors) tensor.offset_bytes += header.size();
  layout.file_bytes = header.size() + data_bytes;
  layout.header = header.Take();
  return layout;
}

absl::Status WriteGguf(const std::string& path, const GgufLayout& layout, const FillTensor& fill,
                       const GgufWriteOptions& options) {
  struct stat info;
  if (!options.overwrite && stat(path.c_str(), &info) == 0) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, " exists; choose another name, or ask for it to be overwritten"));
  }
  WEIR_ASSIGN_OR_RETURN(const uint64_t free_bytes, FreeDiskBytes(FolderOf(path)));
  if (layout.file_bytes > free_bytes) return DiskFull(path, layout.file_bytes, free_bytes);
  WEIR_ASSIGN_OR_RETURN(PartialFile file, PartialFile::Create(path));
  WEIR_RETURN_IF_ERROR(file.Append(layout.header, layout.file_bytes));
  uint64_t done_bytes = layout.header.size();
  std::vector<uint8_t> piece;
  for (size_t i = 0; i < layout.tensors.size(); ++i) {
    const TensorInfo& tensor = layout.tensors[i];
    const uint64_t end =
        i + 1 < layout.tensors.size() ? layout.tensors[i + 1].offset_bytes : layout.file_bytes;
    const uint64_t piece_bytes = GgufPieceBytes(tensor.dtype);
    for (uint64_t offset = 0; offset < tensor.bytes; offset += piece_bytes) {
      const uint64_t bytes = std::min(piece_bytes, tensor.bytes - offset);
      const bool is_last = offset + bytes == tensor.bytes;
      const uint64_t padding = is_last ? end - tensor.offset_bytes - tensor.bytes : 0;
      piece.resize(bytes + padding);
      fill(i, offset, absl::MakeSpan(piece).subspan(0, bytes));
      if (options.check) WEIR_RETURN_IF_ERROR(options.check());
      std::fill(piece.begin() + static_cast<std::ptrdiff_t>(bytes), piece.end(), uint8_t{0});
      WEIR_RETURN_IF_ERROR(
          file.Append(absl::string_view(reinterpret_cast<const char*>(piece.data()), piece.size()),
                      layout.file_bytes));
      done_bytes += piece.size();
      if (options.progress) options.progress(done_bytes, layout.file_bytes);
    }
  }
  return file.Commit(options);
}

}  // namespace weir
