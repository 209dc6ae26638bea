#include "models/gguf.h"

#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "io/base.h"
#include "io/file.h"
#include "models/gguf_parser.h"
#include "models/header_cursor.h"

namespace weir {
namespace {

constexpr uint64_t kMaxParts = 99999;  // five digits in the name

// "PREFIX-00001-of-00003.gguf": numbers counted from one, as in the name.
struct SplitName {
  std::string prefix;
  uint64_t part = 0;
  uint64_t parts = 0;
};

std::string PartPath(const SplitName& name, uint64_t part) {
  return absl::StrFormat("%s-%05d-of-%05d.gguf", name.prefix, part, name.parts);
}

std::optional<SplitName> ParseSplitName(const std::string& path) {
  constexpr std::string_view kShape = "-00001-of-00002.gguf";
  if (path.size() <= kShape.size()) return std::nullopt;
  const absl::string_view tail = absl::string_view(path).substr(path.size() - kShape.size());
  SplitName name;
  name.prefix = path.substr(0, path.size() - kShape.size());
  if (!absl::SimpleAtoi(tail.substr(1, 5), &name.part) ||
      !absl::SimpleAtoi(tail.substr(10, 5), &name.parts) || PartPath(name, name.part) != path) {
    return std::nullopt;
  }
  if (name.part == 0 || name.part > name.parts) return std::nullopt;
  return name;
}

absl::StatusOr<TensorIndex> OpenOneFile(const std::string& path) {
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, File::Open(path, FileMode::kBuffered));
  HeaderCursor cursor(file.get());
  return ParseGguf(cursor);
}

absl::Status RefuseDirectory(const std::string& path) {
  std::vector<std::string> models;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() == ".gguf") models.push_back(entry->path().string());
    if (models.size() == 5) break;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      path, " is a directory, not a GGUF model. ",
      models.empty() ? "It holds no .gguf file: give the path of one, or convert the model first "
                       "(llama.cpp's convert_hf_to_gguf.py)."
                     : absl::StrCat("Give one of the files in it: ", absl::StrJoin(models, ", "))));
}

struct SplitKeys {
  uint64_t number = 0;  // from zero
  uint64_t count = 1;
  uint64_t tensors = 0;  // of all parts
};

absl::StatusOr<SplitKeys> ReadSplitKeys(const Metadata& metadata) {
  SplitKeys keys;
  WEIR_ASSIGN_OR_RETURN(keys.count, metadata.GetUintOr("split.count", 1));
  WEIR_ASSIGN_OR_RETURN(keys.number, metadata.GetUintOr("split.no", 0));
  WEIR_ASSIGN_OR_RETURN(keys.tensors, metadata.GetUintOr("split.tensors.count", 0));
  if (keys.count == 0) keys.count = 1;
  if (keys.count > kMaxParts || keys.number >= keys.count) {
    return absl::InvalidArgumentError(
        absl::StrCat(metadata.source, ": split.no ", keys.number, " of split.count ", keys.count,
                     " makes no sense. The file is damaged; download it again."));
  }
  return keys;
}

// Fails unless all parts are there, naming each one that is not.
absl::Status CheckPartsPresent(const SplitName& name) {
  std::vector<std::string> missing;
  uint64_t missing_count = 0;
  for (uint64_t part = 1; part <= name.parts; ++part) {
    struct stat info;
    if (stat(PartPath(name, part).c_str(), &info) == 0) continue;
    if (missing.size() < 8) missing.push_back(PartPath(name, part));
    ++missing_count;
  }
  if (missing_count == 0) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat(
      "the model is split into ", name.parts, " files, of which ", missing_count,
      missing_count == 1 ? " is" : " are", " missing: ", absl::StrJoin(missing, ", "),
      missing_count > missing.size() ? ", ..." : "", ". Put all parts into one folder."));
}

// Moves the tensors of `part` into `index`.
absl::Status AppendPart(TensorIndex part, uint64_t number, uint64_t count, TensorIndex* index) {
  const std::string& path = part.files[0].path;
  WEIR_ASSIGN_OR_RETURN(const SplitKeys keys, ReadSplitKeys(part.metadata));
  if (keys.number != number || keys.count != count) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": the file says it is part ", keys.number + 1, " of ", keys.count,
        ", its name says part ", number + 1, " of ", count,
        ". Parts of different models are mixed, or files were renamed; download them again."));
  }
  const auto file = static_cast<uint32_t>(index->files.size());
  index->files.push_back(part.files[0]);
  for (TensorInfo& tensor : part.tensors) {
    tensor.file = file;
    const auto position = static_cast<uint32_t>(index->tensors.size());
    if (!index->by_name.emplace(tensor.name, position).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": the tensor \"", tensor.name, "\" is also in an earlier part of the model. ",
          "Parts of different models are mixed; download them again."));
    }
    index->tensors.push_back(std::move(tensor));
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorIndex> OpenSplit(TensorIndex first, const SplitKeys& keys) {
  const std::string path = first.files[0].path;
  const std::optional<SplitName> name = ParseSplitName(path);
  if (!name.has_value() || name->parts != keys.count) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is part ", keys.number + 1, " of a model split into ", keys.count,
                     " files, but its name does not end in ",
                     absl::StrFormat("-%05d-of-%05d.gguf", keys.number + 1, keys.count),
                     ". Give the parts their names back, so that the others can be found."));
  }
  if (keys.number != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is part ", keys.number + 1, " of a model split into ", keys.count,
                     " files. Give the first one: ", PartPath(*name, 1)));
  }
  WEIR_RETURN_IF_ERROR(CheckPartsPresent(*name));
  TensorIndex index;
  index.format = first.format;
  index.metadata = std::move(first.metadata);
  first.metadata = Metadata();
  first.metadata.source = path;
  first.metadata.Set("split.no", keys.number);
  first.metadata.Set("split.count", keys.count);
  WEIR_RETURN_IF_ERROR(AppendPart(std::move(first), 0, keys.count, &index));
  for (uint64_t part = 1; part < keys.count; ++part) {
    WEIR_ASSIGN_OR_RETURN(TensorIndex more, OpenOneFile(PartPath(*name, part + 1)));
    WEIR_RETURN_IF_ERROR(AppendPart(std::move(more), part, keys.count, &index));
  }
  if (keys.tensors != 0 && keys.tensors != index.tensors.size()) {
    return absl::DataLossError(
        absl::StrCat(path, ": the model has ", keys.tensors, " tensors (split.tensors.count), its ",
                     keys.count, " files hold ", index.tensors.size(),
                     ". Parts of different models are mixed; download them again."));
  }
  return index;
}

}  // namespace

absl::StatusOr<TensorIndex> ParseGgufHeader(std::string_view header, uint64_t file_bytes,
                                            const std::string& path) {
  HeaderCursor cursor(header, file_bytes, path);
  return ParseGguf(cursor);
}

absl::StatusOr<TensorIndex> OpenGguf(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return RefuseDirectory(path);
  WEIR_ASSIGN_OR_RETURN(TensorIndex index, OpenOneFile(path));
  WEIR_ASSIGN_OR_RETURN(const SplitKeys keys, ReadSplitKeys(index.metadata));
  if (keys.count > 1) return OpenSplit(std::move(index), keys);
  return index;
}

}  // namespace weir
