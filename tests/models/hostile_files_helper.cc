#include "tests/models/hostile_files_helper.h"

#include <utility>

#include "io/base.h"
#include "models/chat_template.h"
#include "models/config.h"
#include "models/gguf.h"
#include "models/layer_tensors.h"
#include "models/tokenizer.h"
#include "tests/models/gguf_bytes_helper.h"
#include "tests/models/raw_model_helper.h"

namespace weir {
namespace {

constexpr absl::StatusCode kBad = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kCut = absl::StatusCode::kDataLoss;
constexpr uint64_t kMost = ~uint64_t{0};
constexpr uint32_t kString = static_cast<uint32_t>(GgufType::kString);

}  // namespace

HostileFiles HostileHeaders() {
  HostileFiles files;
  const auto add = [&](const char* name, absl::StatusCode code, const char* says, auto edit) {
    RawModel model = SoundModel();
    edit(model);
    files.push_back({name, model.Bytes(), code, says});
  };
  add("magic", kBad, "is not a GGUF model", [](RawModel& m) { m.magic = "GGUE"; });
  add("magic-swapped", kBad, "is not a GGUF model", [](RawModel& m) { m.magic = "FUGG"; });
  add("version-0", kBad, "version 0", [](RawModel& m) { m.version = 0; });
  add("version-1", kBad, "version 1", [](RawModel& m) { m.version = 1; });
  add("version-huge", kBad, "version 4294967295", [](RawModel& m) { m.version = ~0u; });
  add("version-big-endian", kBad, "big-endian", [](RawModel& m) { m.version = 3u << 24; });
  // TALOS-2024-1915 (CVE-2024-21836), llama.cpp #15711: room for the tensors was count * size.
  add("tensors-negative", kBad, "tensors, more than", [](RawModel& m) { m.said_tensors = kMost; });
  add("tensors-wrap", kBad, "tensors, more than",
      [](RawModel& m) { m.said_tensors = uint64_t{1} << 60; });
  add("tensors-one-more", kBad, "the name of tensor 11", [](RawModel& m) { m.said_tensors = 12; });
  // TALOS-2024-1916 (CVE-2024-23605): the same of the keys.
  add("keys-negative", kBad, "metadata keys, more than",
      [](RawModel& m) { m.said_entries = kMost; });
  add("keys-wrap", kBad, "metadata keys, more than",
      [](RawModel& m) { m.said_entries = uint64_t{1} << 60; });
  add("keys-one-more", kBad, "the name of tensor 0", [](RawModel& m) {
    m.said_entries = m.entries.size() + 1;  // a tensor is read as a key
  });
  add("keys-one-less", kBad, "the name of tensor 0", [](RawModel& m) {
    m.entries.back().key = std::string(70000, 'k');
    m.said_entries = m.entries.size() - 1;  // a key is read as a tensor
  });
  add("nothing", kBad, "general.architecture", [](RawModel& m) { m = RawModel(); });
  add("no-tensors", kBad, "token_embd.weight", [](RawModel& m) { m.tensors.clear(); });
  return files;
}

HostileFiles HostileMetadata() {
  HostileFiles files;
  const auto add = [&](const char* name, absl::StatusCode code, const char* says, auto edit) {
    RawModel model = SoundModel();
    edit(model);
    files.push_back({name, model.Bytes(), code, says});
  };
  // The file ends with this value, so that nothing behind it makes up for what is missing.
  const auto last = [&](const char* name, absl::StatusCode code, const char* says, uint32_t type,
                        const ByteBuilder& value) {
    RawModel model;
    model.entries.push_back({"k", type, value.bytes()});
    files.push_back({name, model.Bytes(), code, says});
  };
  const auto array = [&](const char* name, absl::StatusCode code, const char* says, uint32_t type,
                         uint64_t count) {
    last(name, code, says, static_cast<uint32_t>(GgufType::kArray),
         ByteBuilder().U32(type).U64(count).Zeros(64));
  };
  add("key-empty", kBad, "has 0 bytes", [](RawModel& m) { m.entries[3].key = ""; });
  add("key-long", kBad, "65536", [](RawModel& m) { m.entries[3].key = std::string(65536, 'k'); });
  add("key-twice", kBad, "appears twice", [](RawModel& m) { m.entries[3].key = m.entries[2].key; });
  // The message must not carry the bytes to a terminal.
  add("key-escape-twice", kBad, "\\x1b[2J\\n",
      [](RawModel& m) { m.entries[3].key = m.entries[2].key = "\x1b[2J\n"; });
  // TALOS-2024-1914 (CVE-2024-23496): length + 1 bytes were taken for a string.
  last("string-length-wraps", kBad, "is a string of 18446744073709551615 bytes", kString,
       ByteBuilder().U64(kMost).Zeros(64));
  last("string-past-the-end", kCut, "truncated", kString, ByteBuilder().U64(4096).Zeros(64));
  last("type-unknown", kBad, "unknown type 13", 13, ByteBuilder().Zeros(64));
  // llama.cpp #19856: a type below zero indexed a table.
  last("type-negative", kBad, "unknown type 4294967295", ~0u, ByteBuilder().Zeros(64));
  last("bool-of-2", kBad, "boolean", 7, ByteBuilder().Raw("\2").Zeros(64));
  // TALOS-2024-1913 (CVE-2024-21825): count * element size wrapped.
  array("array-wraps", kBad, "elements", 10, uint64_t{1} << 61);
  array("array-of-strings-wraps", kBad, "elements", 8, uint64_t{1} << 60);
  array("array-negative", kBad, "elements", 0, kMost);
  array("array-past-the-end", kCut, "truncated", 6, 1 << 20);
  array("array-of-strings-past-the-end", kCut, "truncated", 8, 1 << 20);
  array("array-of-arrays", kBad, "array of arrays", 9, 1);
  array("array-type-unknown", kBad, "unknown type 13", 13, 1);
  array("array-type-negative", kBad, "unknown type 4294967295", ~0u, 1);
  last("array-string-long", kBad, "holds a string of 1048576 bytes", 9,
       ByteBuilder().U32(kString).U64(1).U64(1 << 20).Zeros(64));
  last("array-bool-of-2", kBad, "boolean", 9, ByteBuilder().U32(7).U64(1).Raw("\2").Zeros(64));
  last("array-uint64-out-of-range", kBad, "out of range", 9,
       ByteBuilder().U32(10).U64(1).U64(kMost).Zeros(64));
  // Zero divides; ggml asserted that it is a power of two (llama.cpp #19856, #26318).
  for (const uint32_t alignment : {0u, 3u, 1u << 31}) {
    const std::string name = "alignment-" + std::to_string(alignment);
    add(name.c_str(), kBad, "general.alignment",
        [&](RawModel& m) { m.SetUint("general.alignment", alignment); });
  }
  add("alignment-negative", kBad, "general.alignment",
      [](RawModel& m) { m.SetNumber("general.alignment", GgufType::kInt32, int32_t{-32}); });
  add("alignment-text", kBad, "general.alignment",
      [](RawModel& m) { m.SetText("general.alignment", "32"); });
  return files;
}

HostileFiles HostileTensors() {
  HostileFiles files;
  const auto add = [&](const char* name, absl::StatusCode code, const char* says, auto edit) {
    RawModel model = SoundModel();
    edit(model);
    files.push_back({name, model.Bytes(), code, says});
  };
  const auto dims = [&](const char* name, absl::StatusCode code, const char* says,
                        std::vector<uint64_t> sizes) {
    add(name, code, says, [&](RawModel& m) { m.tensors[0].dims = std::move(sizes); });
  };
  // TALOS-2024-1912 (CVE-2024-21802), ggml #709: n_dims went unchecked into an array of four.
  add("dims-none", kBad, "0 dimensions", [](RawModel& m) { m.tensors[0].dims = {}; });
  dims("dims-five", kBad, "5 dimensions", {4, 8, 1, 1, 1});
  add("dims-2-to-the-31", kBad, "2147483648 dimensions",
      [](RawModel& m) { m.tensors[0].said_dimensions = 1u << 31; });
  dims("dim-zero", kBad, "dimension of zero", {4, 0});
  dims("dim-negative", kBad, "overflow", {4, kMost});
  dims("dims-product-wraps", kBad, "overflow", {uint64_t{1} << 32, uint64_t{1} << 32});
  dims("dims-product-wraps-to-4", kBad, "overflow", {4, (uint64_t{1} << 62) + 1});  // #18674
  dims("dims-product-negative", kCut, "truncated", {(uint64_t{1} << 60), 2});       // #27203
  // GHSA-96jg-mvhq-q7q7: elements * bytes of an element.
  dims("bytes-wrap", kBad, "overflow", {uint64_t{1} << 62, 1});
  // llama.cpp #24759: padding the size to the alignment wrapped to zero.
  dims("bytes-padded-wrap", kBad, "overflow", {kMost / 4, 1});
  // GHSA-vgg9-87g3-85w8 (CVE-2025-53630), GHSA-3p4r-fq3f-q74v (CVE-2026-27940): the sum of all.
  add("bytes-sum-wraps", kCut, "truncated", [](RawModel& m) {
    for (RawTensor& tensor : m.tensors) tensor.dims = {uint64_t{1} << 60};
  });
  dims("bytes-past-the-end", kCut, "truncated", {4, 1 << 20});
  add("type-of-tensor-negative", kBad, "number 4294967295",
      [](RawModel& m) { m.tensors[0].type = ~0u; });
  add("type-of-tensor-removed", kBad, "Q4_2", [](RawModel& m) { m.tensors[0].type = 4; });
  add("type-of-tensor-unknown", kBad, "number 1000", [](RawModel& m) { m.tensors[0].type = 1000; });
  add("row-not-of-blocks", kBad, "multiple of the 256",
      [](RawModel& m) { m.tensors[0].type = 12; });
  add("offset-unaligned", kBad, "alignment", [](RawModel& m) { m.tensors[1].offset += 4; });
  add("offset-past-the-end", kCut, "truncated",
      [](RawModel& m) { m.tensors[1].offset = uint64_t{1} << 40; });
  add("offset-wraps", kBad, "overflow", [](RawModel& m) { m.tensors[1].offset = kMost - 31; });
  add("offset-overlaps", kBad, "overlap", [](RawModel& m) { m.tensors[1].offset = 96; });
  add("offset-same", kBad, "overlap", [](RawModel& m) { m.tensors[1].offset = 0; });
  add("name-twice", kBad, "appears twice",
      [](RawModel& m) { m.tensors[1].name = m.tensors[0].name; });
  add("name-empty", kBad, "has 0 bytes", [](RawModel& m) { m.tensors[1].name = ""; });
  add("name-long", kBad, "65536", [](RawModel& m) { m.tensors[1].name = std::string(65536, 'n'); });
  add("name-not-utf8", absl::StatusCode::kUnimplemented, "\\xff\\x00\\x1b[31m", [](RawModel& m) {
    m.tensors.push_back(
        {.name = std::string("\xff\0\x1b[31m", 7), .dims = {1}, .offset = m.data.size() - 32});
    m.data += std::string(32, '\0');
    m.tensors.back().offset += 32;
  });
  add("data-cut", kCut, "truncated", [](RawModel& m) { m.data.resize(m.data.size() - 32); });
  add("data-none", kCut, "truncated", [](RawModel& m) { m.data.clear(); });
  return files;
}

HostileFiles AllHostileFiles() {
  HostileFiles all;
  for (auto make : {&HostileHeaders, &HostileMetadata, &HostileTensors, &HostileConfigs,
                    &HostileRopes, &HostileVocabularies, &HostileTokenizers, &OddFiles}) {
    HostileFiles some = make();
    std::move(some.begin(), some.end(), std::back_inserter(all));
  }
  return all;
}

absl::Status LoadAll(const std::string& bytes, std::string_view path) {
  WEIR_ASSIGN_OR_RETURN(TensorIndex index, ParseGgufHeader(bytes, bytes.size(), std::string(path)));
  WEIR_ASSIGN_OR_RETURN(const ModelConfig config, MakeModelConfig(index));
  WEIR_RETURN_IF_ERROR(BindModelTensors(index, config).status());
  WEIR_ASSIGN_OR_RETURN(const std::string source,
                        index.metadata.GetStringOr("tokenizer.chat_template", ""));
  WEIR_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Make(index.metadata));
  std::string text = "ab ab\xff<s> <0x-1>";
  if (const auto family = RecogniseChatTemplate(source)) {
    text += FormatChat(*family, source, {{"user", "ab"}}, true).value_or("");
  }
  for (const TokenId id : tokenizer->Encode(text, {})) {
    WEIR_CHECK(id >= 0 && static_cast<uint32_t>(id) < config.vocabulary);
  }
  return absl::OkStatus();
}

}  // namespace weir
