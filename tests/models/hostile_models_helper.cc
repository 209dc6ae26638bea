// HostileFiles of the metadata that describes the network and the vocabulary.
#include <cmath>
#include <limits>

#include "tests/models/gguf_bytes_helper.h"
#include "tests/models/hostile_files_helper.h"
#include "tests/models/raw_model_helper.h"

namespace weir {
namespace {

constexpr absl::StatusCode kBad = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kAbsent = absl::StatusCode::kNotFound;
constexpr absl::StatusCode kUnknown = absl::StatusCode::kUnimplemented;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinite = std::numeric_limits<float>::infinity();

// One case: a sound model with one thing wrong.
class Cases {
 public:
  template <typename Edit>
  void Add(const std::string& name, absl::StatusCode code, const char* says, Edit edit) {
    Add(SoundModel(), name, code, says, edit);
  }
  template <typename Edit>
  void Add(RawModel model, const std::string& name, absl::StatusCode code, const char* says,
           Edit edit) {
    edit(model);
    files_.push_back({name, model.Bytes(), code, says});
  }
  void Uint(const std::string& name, absl::StatusCode code, const char* says, const char* key,
            uint32_t value) {
    Add(name, code, says, [&](RawModel& m) { m.SetUint(key, value); });
  }
  void Float(const std::string& name, const char* says, const char* key, float value) {
    Add(name, kBad, says, [&](RawModel& m) { m.SetFloat(key, value); });
  }
  HostileFiles Take() { return std::move(files_); }

 private:
  HostileFiles files_;
};

void AddLayerSizes(Cases* cases) {
  const char* kBlocks = "llama.block_count";
  cases->Uint("layers-0", kBad, "1 to 4096", kBlocks, 0);
  cases->Uint("layers-2-to-the-31", kBad, "1 to 4096", kBlocks, 1u << 31);
  cases->Uint("layers-more-than-there-are", kBad, "blk.1.attn_norm.weight", kBlocks, 2);
  cases->Add("layers-2-to-the-32-and-1", kBad, "1 to 4096", [&](RawModel& m) {
    m.SetNumber(kBlocks, GgufType::kUint64, (uint64_t{1} << 32) + 1);
  });
  cases->Add("layers-negative", kBad, "an integer of at least zero",
             [&](RawModel& m) { m.SetNumber(kBlocks, GgufType::kInt32, int32_t{-1}); });
  cases->Add("layers-text", kBad, "a string where", [&](RawModel& m) { m.SetText(kBlocks, "1"); });
  cases->Add("layers-missing", kAbsent, "block_count", [&](RawModel& m) { m.Remove(kBlocks); });
  const char* kHeads = "llama.attention.head_count";
  cases->Uint("heads-0", kBad, "1 to 16384", kHeads, 0);
  cases->Uint("heads-2-to-the-31", kBad, "1 to 16384", kHeads, 1u << 31);
  cases->Add("heads-array-short", kBad, "0 values for 1 layers",
             [&](RawModel& m) { m.SetInts(kHeads, {}); });
  cases->Add("heads-array-long", kBad, "2 values for 1 layers", [&](RawModel& m) {
    m.SetInts(kHeads, {2, 2});
  });
  cases->Add("heads-array-negative", kBad, "gives -2 for layer 0",
             [&](RawModel& m) { m.SetInts(kHeads, {-2}); });
  cases->Add("heads-array-of-texts", kBad, "an array of strings where",
             [&](RawModel& m) { m.SetTexts(kHeads, {"2"}); });
  cases->Uint("kv-heads-0", kBad, "1 to 16384", "llama.attention.head_count_kv", 0);
  cases->Uint("kv-heads-do-not-divide", kBad, "do not divide", "llama.attention.head_count_kv", 3);
}

}  // namespace

HostileFiles HostileConfigs() {
  Cases cases;
  AddLayerSizes(&cases);
  cases.Add("architecture-missing", kBad, "does not say its architecture",
            [](RawModel& m) { m.Remove("general.architecture"); });
  cases.Uint("architecture-number", kBad, "does not say its architecture", "general.architecture",
             1);
  cases.Add("architecture-escape", kUnknown, "\\x1b]0;x\\x07\\n",
            [](RawModel& m) { m.SetText("general.architecture", "\x1b]0;x\x07\n"); });
  cases.Add("architecture-long", kUnknown, "... (4096 bytes)",
            [](RawModel& m) { m.SetText("general.architecture", std::string(4096, 'a')); });
  cases.Uint("columns-0", kBad, "embedding_length", "llama.embedding_length", 0);
  cases.Uint("columns-2-to-the-31", kBad, "embedding_length", "llama.embedding_length", 1u << 31);
  cases.Uint("columns-not-those-of-the-tensors", kBad, "[4, 8]; the metadata calls for [6, 8]",
             "llama.embedding_length", 6);
  cases.Uint("feed-forward-0", kBad, "feed_forward_length", "llama.feed_forward_length", 0);
  cases.Uint("feed-forward-huge", kBad, "feed_forward_length", "llama.feed_forward_length", ~0u);
  cases.Uint("context-0", kBad, "context_length", "llama.context_length", 0);
  cases.Uint("context-huge", kBad, "context_length", "llama.context_length", ~0u);
  cases.Uint("key-columns-odd", kBad, "an even number up to", "llama.attention.key_length", 3);
  cases.Uint("key-columns-0", kBad, "1 to 16384", "llama.attention.key_length", 0);
  cases.Uint("key-columns-huge", kBad, "1 to 16384", "llama.attention.key_length", ~0u);
  cases.Uint("value-columns-0", kBad, "1 to 16384", "llama.attention.value_length", 0);
  const char* kEpsilon = "llama.attention.layer_norm_rms_epsilon";
  cases.Float("epsilon-0", "a small number above zero", kEpsilon, 0);
  cases.Float("epsilon-negative", "a small number above zero", kEpsilon, -1e-5f);
  cases.Float("epsilon-tiny", "a small number above zero", kEpsilon, 1e-38f);
  cases.Float("epsilon-nan", "not a finite number", kEpsilon, kNan);
  cases.Float("epsilon-infinite", "not a finite number", kEpsilon, kInfinite);
  cases.Float("attention-scale-nan", "not a finite number", "llama.attention.scale", kNan);
  cases.Float("attention-scale-0", "makes no sense", "llama.attention.scale", 0);
  cases.Uint("experts", kUnknown, "mixture of 8 experts", "llama.expert_count", 8);
  cases.Add("tensor-missing", kBad, "blk.0.attn_k.weight is missing",
            [](RawModel& m) { m.RemoveTensor("blk.0.attn_k.weight"); });
  cases.Add("tensor-unknown", kUnknown, "is not part of", [](RawModel& m) {
    m.tensors.push_back({.name = "blk.0.attn_q.lora_a", .dims = {4}});
    m.PlaceTensors();
  });
  cases.Add("tensor-transposed", kBad, "the metadata calls for", [](RawModel& m) {
    m.Tensor("blk.0.attn_k.weight").dims = {2, 4};
  });
  cases.Add("embedding-of-one-dimension", kBad, "token_embd.weight has the shape",
            [](RawModel& m) { m.Tensor("token_embd.weight").dims = {32}; });
  cases.Add("norm-in-blocks", kBad, "norms, biases", [](RawModel& m) {
    RawModel wide = SoundModel({.columns = 32});
    wide.Tensor("output_norm.weight").type = 8;
    m = wide;
  });
  // llama.cpp #14145: ids of tokens that have no row were looked up.
  cases.Add("vocabulary-longer-than-embedding", kBad, "8 entries, but token_embd.weight only 7",
            [](RawModel& m) { m = SoundModel({.rows = 7}); });
  return cases.Take();
}

HostileFiles HostileRopes() {
  Cases cases;
  const char* kRotary = "llama.rope.dimension_count";
  cases.Uint("rotary-0", kBad, "an even number up to", kRotary, 0);
  cases.Uint("rotary-odd", kBad, "an even number up to", kRotary, 1);
  cases.Uint("rotary-more-than-a-head", kBad, "an even number up to", kRotary, 4);
  const char* kBase = "llama.rope.freq_base";
  cases.Float("rope-base-0", "is expected", kBase, 0);
  cases.Float("rope-base-negative", "is expected", kBase, -10000);
  cases.Float("rope-base-tiny", "is expected", kBase, 1e-38f);
  cases.Float("rope-base-nan", "not a finite number", kBase, kNan);
  const char* kFactor = "llama.rope.scaling.factor";
  cases.Float("rope-factor-tiny", "is expected", kFactor, 1e-38f);
  cases.Float("rope-factor-negative", "is expected", kFactor, -1);
  cases.Float("rope-factor-infinite", "not a finite number", kFactor, kInfinite);
  cases.Float("rope-magnitude-nan", "not a finite number", "llama.rope.scaling.attn_factor", kNan);
  cases.Add("rope-scaling-unknown", kUnknown, "\\x1b[0m",
            [](RawModel& m) { m.SetText("llama.rope.scaling.type", "\x1b[0m"); });
  cases.Add("rope-longrope-without-factors", kBad, "are not both there",
            [](RawModel& m) { m.SetText("llama.rope.scaling.type", "longrope"); });
  cases.Uint("rope-original-context-0", kBad, "original_context_length",
             "llama.rope.scaling.original_context_length", 0);
  cases.Add("rope-yarn-multiplier-infinite", kBad, "not a finite number", [](RawModel& m) {
    m.SetText("llama.rope.scaling.type", "yarn");
    m.SetFloat("llama.rope.scaling.yarn_log_multiplier", -kInfinite);
  });
  cases.Add("rope-yarn-multiplier-negative", kBad, "is expected", [](RawModel& m) {
    m.SetText("llama.rope.scaling.type", "yarn");
    m.SetFloat("llama.rope.scaling.factor", 2.718281828f);
    m.SetFloat("llama.rope.scaling.yarn_log_multiplier", -10);
  });
  cases.Add("rope-divisors-of-another-length", kBad, "rope_freqs.weight has the shape",
            [](RawModel& m) {
              m.tensors.push_back({.name = "rope_freqs.weight", .dims = {3}});
              m.PlaceTensors();
            });
  return cases.Take();
}

HostileFiles HostileVocabularies() {
  Cases cases;
  const char* kTokens = "tokenizer.ggml.tokens";
  cases.Add("tokens-missing", kBad, "is missing", [&](RawModel& m) { m.Remove(kTokens); });
  cases.Add("tokens-none", kBad, "has 0 entries", [&](RawModel& m) { m.SetTexts(kTokens, {}); });
  cases.Add("tokens-numbers", kBad, "not an array of strings", [&](RawModel& m) {
    m.SetInts(kTokens, {1, 2, 3});
  });
  cases.Add("tokens-twice", kBad, "the same text at 4 and at 5", [&](RawModel& m) {
    m.SetTexts(kTokens, {"<unk>", "<s>", "</s>", "x", "a", "a", "ab", "b"});
  });
  // GHSA-8wwf-w4qm-gpqr (CVE-2025-49847): the length of a token as a signed number.
  cases.Add("token-long", kBad, "entry 3 has 5000 bytes", [&](RawModel& m) {
    m.SetTexts(kTokens, {"<unk>", "<s>", "</s>", std::string(5000, 'x'), "a", "b", "ab", "c"});
  });
  cases.Add("special-token-long", kBad, "special token of 600 bytes", [&](RawModel& m) {
    m.SetTexts(kTokens, {"<unk>", std::string(600, 's'), "</s>", "x", "a", "b", "ab", "c"});
  });
  // llama.cpp #26690: arrays of another length or type were read as if they fitted.
  const char* kTypes = "tokenizer.ggml.token_type";
  cases.Add("types-short", kBad, "has 7 entries for 8 tokens", [&](RawModel& m) {
    m.SetInts(kTypes, {2, 3, 3, 1, 1, 1, 1});
  });
  cases.Add("types-long", kBad, "has 9 entries for 8 tokens", [&](RawModel& m) {
    m.SetInts(kTypes, {2, 3, 3, 1, 1, 1, 1, 1, 1});
  });
  cases.Add("types-text", kBad, "not an array of integers",
            [&](RawModel& m) { m.SetTexts(kTypes, {"1"}); });
  const char* kScores = "tokenizer.ggml.scores";
  cases.Add("scores-short", kBad, "has 1 entries for 8 tokens",
            [&](RawModel& m) { m.SetFloats(kScores, {0}); });
  cases.Add("scores-long", kBad, "has 9 entries for 8 tokens", [&](RawModel& m) {
    m.SetFloats(kScores, {0, 0, 0, 0, 0, 0, 0, 0, 0});
  });
  cases.Add("scores-nan", kBad, "entry 4 is nan", [&](RawModel& m) {
    m.SetFloats(kScores, {0, 0, 0, 0, kNan, 0, 0, 0});
  });
  cases.Add("scores-infinite", kBad, "entry 4 is inf", [&](RawModel& m) {
    m.SetFloats(kScores, {0, 0, 0, 0, kInfinite, 0, 0, 0});
  });
  cases.Add("scores-text", kBad, "not an array of numbers",
            [&](RawModel& m) { m.SetTexts(kScores, {"1"}); });
  for (const char* name : {"bos", "eos", "unknown", "eot", "eom", "fim_pad", "fim_pre", "suffix"}) {
    const std::string key = std::string("tokenizer.ggml.") + name + "_token_id";
    const std::string id = std::string("id-of-") + name;
    cases.Uint(id + "-out-of-range", kBad, "is 8, but the file has 8 tokens", key.c_str(), 8);
    cases.Add(id + "-negative", kBad, "an integer of at least zero",
              [&](RawModel& m) { m.SetNumber(key, GgufType::kInt32, int32_t{-1}); });
  }
  cases.Add("id-of-bos-2-to-the-32", kBad, "is 4294967296, but", [](RawModel& m) {
    m.SetNumber("tokenizer.ggml.bos_token_id", GgufType::kUint64, uint64_t{1} << 32);
  });
  cases.Add("id-of-bos-text", kBad, "a string where",
            [](RawModel& m) { m.SetText("tokenizer.ggml.bos_token_id", "<s>"); });
  cases.Add("bos-added-but-none", kBad, "bos_token_id is missing", [&](RawModel& m) {
    m.SetTexts(kTokens, {"<unk>"});
    m.SetInts(kTypes, {2});
    m.SetFloats(kScores, {0});
  });
  return cases.Take();
}

HostileFiles HostileTokenizers() {
  Cases cases;
  cases.Add("tokenizer-missing", kBad, "holds no vocabulary",
            [](RawModel& m) { m.Remove("tokenizer.ggml.model"); });
  cases.Add("tokenizer-unknown", kUnknown, "\\xff\\x1b[1m",
            [](RawModel& m) { m.SetText("tokenizer.ggml.model", "\xff\x1b[1m"); });
  const char* kMerges = "tokenizer.ggml.merges";
  const auto bpe = [&](const char* name, absl::StatusCode code, const char* says, auto edit) {
    cases.Add(SoundBpeModel(), name, code, says, edit);
  };
  bpe("pre-tokenizer-unknown", kUnknown, "\\x1b[1m",
      [](RawModel& m) { m.SetText("tokenizer.ggml.pre", "\x1b[1m"); });
  bpe("merges-missing", kBad, "needs tokenizer.ggml.merges",
      [&](RawModel& m) { m.Remove(kMerges); });
  bpe("merges-numbers", kBad, "needs tokenizer.ggml.merges",
      [&](RawModel& m) { m.SetInts(kMerges, {1}); });
  // A merge without a space was cut at npos.
  for (const auto& pair : {std::pair("merge-without-space", "ab"),
                           {"merge-empty", ""},
                           {"merge-of-a-space", " "},
                           {"merge-without-left", " a"},
                           {"merge-without-right", "a "}}) {
    bpe(pair.first, kBad, "not two texts", [&](RawModel& m) {
      m.SetTexts(kMerges, {"a b", pair.second});
    });
  }
  bpe("merge-escape", kBad, "\\x1b[2J", [&](RawModel& m) { m.SetTexts(kMerges, {"\x1b[2J"}); });
  const char* kCharsmap = "tokenizer.ggml.precompiled_charsmap";
  const auto unigram = [&](const char* name, const char* says, auto edit) {
    cases.Add(SoundUnigramModel(), name, kBad, says, edit);
  };
  unigram("unigram-without-unknown", "needs tokenizer.ggml.unknown_token_id", [](RawModel& m) {
    m.Remove("tokenizer.ggml.unknown_token_id");
    m.Remove("tokenizer.ggml.eos_token_id");
    m.SetTexts("tokenizer.ggml.tokens", {"a", "</s>"});
    m.SetInts("tokenizer.ggml.token_type", {1, 3});
    m.SetFloats("tokenizer.ggml.scores", {0, 0});
  });
  unigram("charsmap-text", "not an array of bytes",
          [&](RawModel& m) { m.SetText(kCharsmap, "abcd"); });
  unigram("charsmap-short", "does not fit together",
          [&](RawModel& m) { m.SetBytes(kCharsmap, "abc"); });
  unigram("charsmap-trie-past-the-end", "does not fit together",
          [&](RawModel& m) { m.SetBytes(kCharsmap, ByteBuilder().U32(~3u).Zeros(8).bytes()); });
  unigram("charsmap-not-ended", "does not fit together", [&](RawModel& m) {
    m.SetBytes(kCharsmap, ByteBuilder().U32(4).U32(0).Raw("abc").bytes());
  });
  unigram("charsmap-replacement-long", "replacement of 1000 bytes", [&](RawModel& m) {
    m.SetBytes(kCharsmap, ByteBuilder().U32(4).U32(0).Raw(std::string(1000, 'r')).Zeros(1).bytes());
  });
  return cases.Take();
}

HostileFiles OddFiles() {
  Cases cases;
  const auto odd = [&](RawModel model, const char* name, auto edit) {
    cases.Add(std::move(model), name, absl::StatusCode::kOk, "", edit);
  };
  const auto none = [](RawModel&) {};
  odd(SoundModel(), "sound", none);
  odd(SoundBpeModel(), "sound-bpe", none);
  odd(SoundUnigramModel(), "sound-unigram", none);
  odd(SoundModel({.columns = 3,
                  .heads = 3,
                  .key_columns = 2,
                  .value_columns = 1,
                  .feed_forward = 5,
                  .rows = 11}),
      "sizes-odd", none);
  odd(SoundModel({.columns = 1,
                  .heads = 1,
                  .key_columns = 2,
                  .value_columns = 3,
                  .feed_forward = 1,
                  .rows = 8}),
      "sizes-one", none);
  odd(SoundModel(), "key-with-zero-bytes",
      [](RawModel& m) { m.SetText(std::string_view("\0\xff\x1b", 3), "\x1b[2J"); });
  odd(SoundModel(), "token-types-unknown", [](RawModel& m) {
    m.SetInts("tokenizer.ggml.token_type", {2, 3, 3, -1, 99, 1 << 30, 1, 0});
  });
  odd(SoundModel(), "scores-missing", [](RawModel& m) { m.Remove("tokenizer.ggml.scores"); });
  odd(SoundModel(), "token-types-missing",
      [](RawModel& m) { m.Remove("tokenizer.ggml.token_type"); });
  // llama.cpp #25969, #27226: "-1" was read as the number of a byte.
  odd(SoundModel(), "byte-token-negative", [](RawModel& m) {
    m.SetTexts("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "<0x-1>", "<0xZZ>", "<0x41>", "",
                                         std::string("\0\xff", 2)});
    m.SetInts("tokenizer.ggml.token_type", {2, 3, 3, 6, 6, 6, 1, 1});
  });
  odd(SoundBpeModel(), "merges-of-unknown-parts", [](RawModel& m) {
    m.SetTexts("tokenizer.ggml.merges", {"x y", "xy z", "a b", "a b", "\xff \xfe"});
  });
  // Every rule points back at the root: the walk through the trie never ends by itself.
  odd(SoundUnigramModel(), "charsmap-circular", [](RawModel& m) {
    ByteBuilder map;
    map.U32(256 * 4);
    for (uint32_t i = 0; i < 256; ++i) map.U32(i | 1u << 8);
    m.SetBytes("tokenizer.ggml.precompiled_charsmap", map.Raw("r").Zeros(1).bytes());
  });
  odd(SoundModel(), "chat-template-of-literals", [](RawModel& m) {
    std::string source;
    for (int i = 0; i < 100; ++i) source += "\\'<|im_start|>system\\n";
    m.SetText("tokenizer.chat_template", source);
  });
  return cases.Take();
}

}  // namespace weir
