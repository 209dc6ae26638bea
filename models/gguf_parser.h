// The GGUF header parser behind ParseGgufHeader and OpenGguf: one file, one HeaderCursor.
#ifndef WEIR_MODELS_GGUF_PARSER_H_
#define WEIR_MODELS_GGUF_PARSER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "models/header_cursor.h"
#include "models/tensor_index.h"

namespace weir {

// Value types of the metadata (GGUF specification).
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Of a number or boolean; 0 for strings, arrays and what is no type.
uint64_t GgufNumberBytes(GgufType type);

inline constexpr uint32_t kGgufDefaultAlignment = 32;

// Bounds that no real file comes near; they limit what a hostile one can make us allocate.
struct GgufLimits {
  static constexpr uint64_t kHeaderBytes = uint64_t{256} << 20;
  static constexpr uint64_t kKeys = 1 << 16;
  static constexpr uint64_t kTensors = 1 << 18;
  static constexpr uint64_t kArrayElements = 1 << 23;   // of all arrays; vocabularies have 2^18
  static constexpr uint64_t kNameBytes = 65535;         // keys and tensor names
  static constexpr uint64_t kArrayStringBytes = 65536;  // one token
  static constexpr uint64_t kAlignmentBytes = 1 << 20;
  static constexpr uint32_t kDimensions = 4;
};

// Reads everything up to the tensor data, from the cursor's place at the file's first byte.
absl::StatusOr<TensorIndex> ParseGguf(HeaderCursor& cursor);

}  // namespace weir

#endif  // WEIR_MODELS_GGUF_PARSER_H_
