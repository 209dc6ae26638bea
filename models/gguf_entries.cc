#include "models/gguf_entries.h"

#include <cstdint>
#include <memory>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "io/file.h"
#include "models/gguf_parser.h"
#include "models/header_cursor.h"

namespace weir {
namespace {

// Walks over entries and keeps the bytes of each.
class EntryReader {
 public:
  explicit EntryReader(const File* file) : cursor_(file) {}

  absl::StatusOr<uint64_t> Begin() {                                // how many entries there are
    WEIR_RETURN_IF_ERROR(cursor_.Take(4 + 4 + 8, kWhat).status());  // magic, version, tensors
    return cursor_.TakeNumber<uint64_t>(kWhat);
  }

  // The key; the whole entry is in bytes() then.
  absl::StatusOr<std::string> Next() {
    bytes_.clear();
    WEIR_RETURN_IF_ERROR(CopyString());
    const std::string key = bytes_.substr(sizeof(uint64_t));
    WEIR_ASSIGN_OR_RETURN(uint32_t type, CopyNumber<uint32_t>());
    uint64_t count = 1;
    if (type == static_cast<uint32_t>(GgufType::kArray)) {
      WEIR_ASSIGN_OR_RETURN(type, CopyNumber<uint32_t>());
      WEIR_ASSIGN_OR_RETURN(count, CopyNumber<uint64_t>());
    }
    WEIR_RETURN_IF_ERROR(CopyValues(type, count));
    return key;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  static constexpr char kWhat[] = "the metadata";

  absl::Status Changed() const {
    return absl::DataLossError(
        absl::StrCat(cursor_.path(), ": the metadata makes no sense any more at offset ",
                     cursor_.offset_bytes(), ". The file was changed while it was read."));
  }
  absl::Status Copy(uint64_t bytes) {
    if (bytes > GgufLimits::kHeaderBytes) return Changed();
    WEIR_ASSIGN_OR_RETURN(const std::string copied, cursor_.TakeString(bytes, kWhat));
    bytes_ += copied;
    return absl::OkStatus();
  }
  template <typename T>
  absl::StatusOr<T> CopyNumber() {
    WEIR_ASSIGN_OR_RETURN(const T number, cursor_.TakeNumber<T>(kWhat));
    bytes_.append(reinterpret_cast<const char*>(&number), sizeof(number));
    return number;
  }
  absl::Status CopyString() {
    WEIR_ASSIGN_OR_RETURN(const uint64_t bytes, CopyNumber<uint64_t>());
    return Copy(bytes);
  }
  absl::Status CopyValues(uint32_t type, uint64_t count) {
    if (count > GgufLimits::kArrayElements) return Changed();
    const uint64_t number_bytes = GgufNumberBytes(static_cast<GgufType>(type));
    if (number_bytes != 0) return Copy(count * number_bytes);
    if (type != static_cast<uint32_t>(GgufType::kString)) return Changed();
    for (uint64_t i = 0; i < count; ++i) WEIR_RETURN_IF_ERROR(CopyString());
    return absl::OkStatus();
  }

  HeaderCursor cursor_;
  std::string bytes_;
};

}  // namespace

absl::StatusOr<GgufEntries> ReadGgufEntries(const std::string& path,
                                            absl::FunctionRef<bool(std::string_view)> is_wanted) {
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, File::Open(path, FileMode::kBuffered));
  EntryReader reader(file.get());
  WEIR_ASSIGN_OR_RETURN(const uint64_t count, reader.Begin());
  GgufEntries entries;
  for (uint64_t i = 0; i < count; ++i) {
    WEIR_ASSIGN_OR_RETURN(const std::string key, reader.Next());
    if (!is_wanted(key)) continue;
    entries.bytes += reader.bytes();
    ++entries.count;
  }
  return entries;
}

}  // namespace weir
