#include "models/foreign_formats.h"

#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr absl::string_view kConvert =
    "Download the model's GGUF instead, or convert it with llama.cpp's convert_hf_to_gguf.py.";
constexpr absl::string_view kDownload =
    "The download went wrong: fetch the file itself (on a model page, its \"download\" link).";

struct Magic {
  absl::string_view bytes;  // none holds a zero byte
  absl::string_view what;   // "a ..."
  absl::string_view advice;
};

// Sources: the formats' own specifications; ggml's legacy magics are little-endian words.
constexpr Magic kMagics[] = {
    {"PK\x03\x04", "a zip archive, most likely PyTorch weights (.bin, .pt, .pth)", kConvert},
    {"\x80\x02", "a Python pickle, most likely old PyTorch weights", kConvert},
    {"\x80\x03", "a Python pickle, most likely old PyTorch weights", kConvert},
    {"\x80\x04", "a Python pickle, most likely old PyTorch weights", kConvert},
    {"lmgg", "a GGML file of before August 2023", kConvert},
    {"fmgg", "a GGMF file of before August 2023", kConvert},
    {"tjgg", "a GGJT file of before August 2023", kConvert},
    {"algg", "a GGLA adapter (LoRA) of before August 2023", kConvert},
    {"\x89HDF", "an HDF5 file (Keras weights)", kConvert},
    {"version https://git-lfs", "a Git LFS pointer: a few lines of text in place of the weights",
     "Run `git lfs pull` in that repository, or download the file itself."},
    {"\x1f\x8b", "a gzip archive", "Unpack it first: weights are read in place."},
    {"\x28\xb5\x2f\xfd", "a zstd archive", "Unpack it first: weights are read in place."},
    {"\xfd"
     "7zXZ",
     "an xz archive", "Unpack it first: weights are read in place."},
    {"7z\xbc\xaf", "a 7-Zip archive", "Unpack it first: weights are read in place."},
    {"\x7f"
     "ELF",
     "a program, not a model", "Give the path of a .gguf file."},
};

absl::Status Foreign(const std::string& path, absl::string_view what, absl::string_view advice) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, " is ", what, ", not a GGUF model. ", advice));
}

// safetensors: a little-endian length of the JSON header, then the JSON.
bool LooksLikeSafetensors(absl::string_view head, uint64_t file_bytes) {
  if (head.size() < 10) return false;
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, head.data(), sizeof(header_bytes));
  if (header_bytes > file_bytes) return false;
  const absl::string_view json = absl::StripLeadingAsciiWhitespace(head.substr(9));
  return head[8] == '{' && (json.empty() || json[0] == '"' || json[0] == '}');
}

}  // namespace

absl::Status CheckGgufMagic(std::string_view head_bytes, uint64_t file_bytes,
                            const std::string& path) {
  const absl::string_view head = AbslView(head_bytes);
  if (file_bytes == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is empty (0 bytes), not a GGUF model. ", kDownload));
  }
  if (absl::StartsWith(head, "GGUF")) return absl::OkStatus();
  if (LooksLikeSafetensors(head, file_bytes)) {
    return Foreign(path, "a safetensors file", kConvert);
  }
  for (const Magic& magic : kMagics) {
    if (absl::StartsWith(head, magic.bytes)) return Foreign(path, magic.what, magic.advice);
  }
  const absl::string_view text = absl::StripLeadingAsciiWhitespace(head);
  if (absl::StartsWithIgnoreCase(text, "<!doctype") || absl::StartsWithIgnoreCase(text, "<html")) {
    return Foreign(path, "a web page (HTML)", kDownload);
  }
  if (absl::StartsWith(text, "{") || absl::StartsWith(text, "[")) {
    return Foreign(path, "JSON text, most likely a configuration beside the weights",
                   "Give the path of the .gguf file itself.");
  }
  return absl::InvalidArgumentError(absl::StrCat(
      path, " is not a GGUF model: it begins with \"", absl::CHexEscape(head.substr(0, 4)),
      "\" where \"GGUF\" is expected (", file_bytes, " bytes). Give the path of a .gguf file; ",
      "models in other formats must be converted first (llama.cpp's convert_hf_to_gguf.py)."));
}

}  // namespace weir
