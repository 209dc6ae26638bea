// The few UTF-8 questions that tokenizers ask. Nothing here assumes valid input.
#ifndef WEIR_MODELS_UTF8_H_
#define WEIR_MODELS_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace weir {

// Bytes of the character that starts with `lead`, going by its high bits alone: 1 to 4. A stray
// continuation byte counts as one byte.
size_t Utf8LengthFromLead(unsigned char lead);

// One character at the front of a text.
struct Utf8Char {
  uint32_t code_point = 0;
  uint32_t bytes = 0;  // 0: the front of the text is not valid UTF-8 (or the text is empty)
};

// Strict: refuses overlong forms, surrogates, code points above U+10FFFF and cut sequences.
Utf8Char DecodeUtf8(std::string_view text);

void AppendUtf8(uint32_t code_point, std::string* text);

}  // namespace weir

#endif  // WEIR_MODELS_UTF8_H_
