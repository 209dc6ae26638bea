// The expressions of each pre-tokenizer, and the names that select them.
#include <array>

#include "models/pre_tokenizer.h"

namespace weir {
namespace {

// Alternatives that several expressions share. Code points are written in hexadecimal where the
// glyphs are easily mistaken.
constexpr std::string_view kLowerContraction = "'(?:[stmd]|re|ve|ll)";
constexpr std::string_view kContraction = "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])";
constexpr std::string_view kSpacedWord = " ?\\p{L}+";
constexpr std::string_view kSpacedNumber = " ?\\p{N}+";
constexpr std::string_view kSpacedSymbols = " ?[^\\s\\p{L}\\p{N}]+";
constexpr std::string_view kWord = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
constexpr std::string_view kMarkedWord = "[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+";
constexpr std::string_view kDigit = "\\p{N}";
constexpr std::string_view kDigits = "\\p{N}+";
constexpr std::string_view kThreeDigits = "\\p{N}{1,3}";
constexpr std::string_view kSymbols = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*";
constexpr std::string_view kPathSymbols = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*";
constexpr std::string_view kLineEnds = "\\s*[\\r\\n]+";
constexpr std::string_view kLineEnd = "\\s*[\\r\\n]";
constexpr std::string_view kInnerSpaces = "\\s+(?!\\S)";  // all but the space before a word
constexpr std::string_view kSpaces = "\\s+";
// Words that begin a new one at a change from lower to upper case. Only ASCII letters have a case
// here, as in llama.cpp; "[^\P{L}a-z]" is a letter outside a-z.
constexpr std::string_view kCasedWord = "[^\\r\\n\\p{L}\\p{N}]?[^\\P{L}a-z]*[^\\P{L}A-Z]+";
constexpr std::string_view kUpperWord = "[^\\r\\n\\p{L}\\p{N}]?[^\\P{L}a-z]+[^\\P{L}A-Z]*";
constexpr std::string_view kCasedContraction =
    "[^\\r\\n\\p{L}\\p{N}]?[^\\P{L}a-z]*[^\\P{L}A-Z]+(?:'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL]))"
    "?";
constexpr std::string_view kUpperContraction =
    "[^\\r\\n\\p{L}\\p{N}]?[^\\P{L}a-z]+[^\\P{L}A-Z]*(?:'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL]))"
    "?";

constexpr std::string_view kGpt2[] = {kLowerContraction, kSpacedWord,  kSpacedNumber,
                                      kSpacedSymbols,    kInnerSpaces, kSpaces};
constexpr std::string_view kLlama3[] = {kContraction, kWord,        kThreeDigits, kSymbols,
                                        kLineEnds,    kInnerSpaces, kSpaces};
constexpr std::string_view kQwen2[] = {kContraction, kWord,        kDigit, kSymbols,
                                       kLineEnds,    kInnerSpaces, kSpaces};
constexpr std::string_view kQwen35[] = {
    kContraction, kMarkedWord,  kDigit, " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*",
    kLineEnds,    kInnerSpaces, kSpaces};
constexpr std::string_view kTekken[] = {kCasedWord, kUpperWord,   kDigit, kPathSymbols,
                                        kLineEnds,  kInnerSpaces, kSpaces};
constexpr std::string_view kGpt4o[] = {
    kCasedContraction, kUpperContraction, kThreeDigits, kPathSymbols,
    kLineEnds,         kInnerSpaces,      kSpaces};
constexpr std::string_view kBailing[] = {kContraction, kWord,        kDigit, kSymbols,
                                         kLineEnd,     kInnerSpaces, kSpaces};
constexpr std::string_view kSeedCoder[] = {
    kContraction, kWord, kDigit, " ?[^\\s\\p{L}\\p{N}\\r\\n]+", kLineEnds, kInnerSpaces, kSpaces};
constexpr std::string_view kUfakzeka[] = {kWord,     kDigit,       kSymbols,
                                          kLineEnds, kInnerSpaces, kSpaces};
constexpr std::string_view kMiniCpm5[] = {kContraction, kWord,        kDigits, kSymbols,
                                          kLineEnds,    kInnerSpaces, kSpaces};
constexpr std::string_view kJais2[] = {kContraction,      kWord,
                                       kThreeDigits,      kSymbols,
                                       kLineEnds,         "\\s{512}(?!\\S)",
                                       "\\s{256}(?!\\S)", "\\s{128}(?!\\S)",
                                       "\\s{64}(?!\\S)",  "\\s{32}(?!\\S)",
                                       "\\s{16}(?!\\S)",  "\\s{8}(?!\\S)",
                                       "\\s{4}(?!\\S)",   "\\s{1,2}(?!\\S)",
                                       "\\s{1}"};
constexpr std::string_view kOneDigit[] = {kDigit};
constexpr std::string_view kDigitRun[] = {kDigits};
constexpr std::string_view kUpToThreeDigits[] = {kThreeDigits};
constexpr std::string_view kAsciiTriple[] = {"[0-9][0-9][0-9]"};
constexpr std::string_view kPunctuationRun[] = {"[\\p{P}$+<=>^~|]+"};
constexpr std::string_view kFalconPunctuation[] = {"[\\p{P}$+<=>^~|`]+"};
constexpr std::string_view kOneLineEnd[] = {"[\\r\\n]"};
constexpr std::string_view kLines[] = {"[^\\n]+", "\\n+"};
constexpr std::string_view kSentenceWords[] = {
    " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"};
constexpr std::string_view kHanKana[] = {
    "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+"};
// U+0800 to U+4E00 and more, less the white space among them.
constexpr std::string_view kEastAsian[] = {
    "[\\x{800}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}"
    "\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+"};
// Letters of the alphabets that have case.
constexpr std::string_view kCasedAlphabets[] = {
    "\\s?["
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}"
    "\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}"
    "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}"
    "\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}"
    "\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}"
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}"
    "\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}"
    "\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}"
    "\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}"
    "\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}"
    "\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}"
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"
    "]+"};
constexpr std::string_view kWidePunctuation[] = {
    "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3001}-\\x{3002}]+"};
constexpr std::string_view kSpacesAtEnd[] = {"\\s+$"};
constexpr std::string_view kSpaceLetters[] = {"\\s?\\p{L}+"};
constexpr std::string_view kSpacePunctuation[] = {"\\s?\\p{P}+"};
constexpr std::string_view kAsciiMarkWord = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+";
constexpr std::string_view kMarkedLetters = "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+";
constexpr std::string_view kDeepSeek3[] = {
    kAsciiMarkWord, kMarkedLetters, " ?[\\p{P}\\p{S}]+[\\r\\n]*", kLineEnds, kInnerSpaces, kSpaces};
constexpr std::string_view kSpark[] = {kAsciiMarkWord, kMarkedLetters, " ?[\\p{P}\\p{S}]+",
                                       "[\\r\\n]",     kInnerSpaces,   kSpaces};

constexpr SplitAlternatives kGpt2Splits[] = {kGpt2};
constexpr SplitAlternatives kLlama3Splits[] = {kLlama3};
constexpr SplitAlternatives kQwen2Splits[] = {kQwen2};
constexpr SplitAlternatives kQwen35Splits[] = {kQwen35};
constexpr SplitAlternatives kSmolLmSplits[] = {kOneDigit, kGpt2};
constexpr SplitAlternatives kTekkenSplits[] = {kTekken};
constexpr SplitAlternatives kGpt4oSplits[] = {kGpt4o};
constexpr SplitAlternatives kDefaultSplits[] = {kPunctuationRun, kGpt2, kDigitRun, kAsciiTriple};
constexpr SplitAlternatives kFalconSplits[] = {kFalconPunctuation, kGpt2, kAsciiTriple};
constexpr SplitAlternatives kDeepSeekLlmSplits[] = {kOneLineEnd,  kCasedAlphabets, kWidePunctuation,
                                                    kSpacesAtEnd, kEastAsian,      kDigitRun};
constexpr SplitAlternatives kDeepSeekCoderSplits[] = {kOneLineEnd, kSpaceLetters, kSpacePunctuation,
                                                      kEastAsian, kOneDigit};
constexpr SplitAlternatives kDeepSeek3Splits[] = {kUpToThreeDigits, kHanKana, kDeepSeek3};
constexpr SplitAlternatives kSparkSplits[] = {kUpToThreeDigits, kHanKana, kSpark, kOneDigit};
constexpr SplitAlternatives kBloomSplits[] = {kSentenceWords};
constexpr SplitAlternatives kVikingSplits[] = {kSentenceWords, kOneDigit};
constexpr SplitAlternatives kBailingSplits[] = {kBailing};
constexpr SplitAlternatives kSeedCoderSplits[] = {kSeedCoder};
constexpr SplitAlternatives kUfakzekaSplits[] = {kUfakzeka};
constexpr SplitAlternatives kMiniCpm5Splits[] = {kUpToThreeDigits, kMiniCpm5};
constexpr SplitAlternatives kJais2Splits[] = {kJais2};
constexpr SplitAlternatives kLagunaSplits[] = {kLines, kQwen2};

constexpr PreTokenizerInfo Plain(std::string_view name,
                                 absl::Span<const SplitAlternatives> splits) {
  return {.name = name, .splits = splits};
}

constexpr PreTokenizerInfo WholeWords(std::string_view name,
                                      absl::Span<const SplitAlternatives> splits, bool adds_begin) {
  return {.name = name, .splits = splits, .ignores_merges = true, .adds_begin = adds_begin};
}

constexpr PreTokenizerInfo kPreTokenizers[] = {
    Plain("a.x-4.0", kGpt2Splits),
    Plain("bailingmoe", kBailingSplits),
    Plain("bailingmoe2", kBailingSplits),
    Plain("bloom", kBloomSplits),
    {.name = "chatglm-bpe",
     .splits = kLlama3Splits,
     .ignores_merges = false,
     .has_default_begin = false},
    Plain("codeshell", kSmolLmSplits),
    Plain("command-r", kSmolLmSplits),
    Plain("dbrx", kLlama3Splits),
    Plain("deepseek-coder", kDeepSeekCoderSplits),
    Plain("deepseek-llm", kDeepSeekLlmSplits),
    Plain("deepseek-r1-qwen", kQwen2Splits),
    Plain("deepseek-v3", kDeepSeek3Splits),
    Plain("default", kDefaultSplits),
    Plain("exaone", kSmolLmSplits),
    Plain("exaone4", kGpt2Splits),
    Plain("f2llmv2", kQwen2Splits),
    Plain("falcon", kFalconSplits),
    WholeWords("falcon-h1", kLlama3Splits, /*adds_begin=*/true),
    WholeWords("falcon3", kLlama3Splits, /*adds_begin=*/true),
    Plain("gigachat", kGpt2Splits),
    {.name = "glm4", .splits = kLlama3Splits, .ignores_merges = true, .has_default_begin = false},
    {.name = "glm5", .splits = kLlama3Splits, .ignores_merges = true, .has_default_begin = false},
    Plain("gpt-2", kGpt2Splits),
    Plain("gpt-4o", kGpt4oSplits),
    Plain("gpt3-finnish", kBloomSplits),
    Plain("granite-docling", kGpt2Splits),
    Plain("grok-2", kQwen2Splits),
    Plain("hunyuan", kQwen2Splits),
    Plain("hunyuan-dense", kDeepSeek3Splits),
    Plain("hy_v4", kDeepSeek3Splits),
    Plain("jais", kGpt2Splits),
    Plain("jais-2", kJais2Splits),
    Plain("jina-de", kGpt2Splits),
    Plain("jina-es", kGpt2Splits),
    Plain("jina-v2-de", kGpt2Splits),
    Plain("jina-v2-es", kGpt2Splits),
    Plain("joyai-llm", kDeepSeek3Splits),
    Plain("kanana2", kGpt4oSplits),
    Plain("kormo", kQwen2Splits),
    Plain("laguna", kLagunaSplits),
    WholeWords("lfm2", kLlama3Splits, /*adds_begin=*/true),
    Plain("llada-moe", kBailingSplits),
    WholeWords("llama-bpe", kLlama3Splits, /*adds_begin=*/true),
    WholeWords("llama-v3", kLlama3Splits, /*adds_begin=*/true),
    WholeWords("llama3", kLlama3Splits, /*adds_begin=*/true),
    Plain("llama4", kGpt4oSplits),
    Plain("megrez", kQwen2Splits),
    Plain("mellum", kGpt2Splits),
    Plain("mellum2", kSmolLmSplits),
    WholeWords("midm-2.0", kLlama3Splits, /*adds_begin=*/true),
    Plain("minerva-7b", kSmolLmSplits),
    WholeWords("minicpm5", kMiniCpm5Splits, /*adds_begin=*/false),
    Plain("minimax-m2", kGpt4oSplits),
    Plain("modern-bert", kGpt2Splits),
    Plain("mpt", kGpt2Splits),
    Plain("olmo", kGpt2Splits),
    Plain("phi-2", kGpt2Splits),
    WholeWords("pixtral", kLlama3Splits, /*adds_begin=*/true),
    Plain("poro-chat", kBloomSplits),
    Plain("qwen2", kQwen2Splits),
    Plain("qwen35", kQwen35Splits),
    Plain("refact", kSmolLmSplits),
    Plain("seed-coder", kSeedCoderSplits),
    Plain("smaug-bpe", kLlama3Splits),
    Plain("smollm", kSmolLmSplits),
    Plain("solar-open", kQwen2Splits),
    Plain("spark2_5", kSparkSplits),
    Plain("stablelm2", kQwen2Splits),
    Plain("starcoder", kSmolLmSplits),
    Plain("talkie", kGpt4oSplits),
    WholeWords("tekken", kTekkenSplits, /*adds_begin=*/true),
    Plain("trillion", kGpt2Splits),
    Plain("ufakzeka", kUfakzekaSplits),
    Plain("viking", kVikingSplits),
};

}  // namespace

const PreTokenizerInfo* FindPreTokenizer(std::string_view name) {
  for (const PreTokenizerInfo& info : kPreTokenizers) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

std::string KnownPreTokenizers() {
  std::string names;
  for (const PreTokenizerInfo& info : kPreTokenizers) {
    if (!names.empty()) names += ", ";
    names += info.name;
  }
  return names;
}

}  // namespace weir
