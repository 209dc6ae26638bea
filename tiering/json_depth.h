// A bound on JSON from outside, before it is parsed.
#ifndef WEIR_TIERING_JSON_DEPTH_H_
#define WEIR_TIERING_JSON_DEPTH_H_

#include <string_view>

namespace weir {

// Whether arrays and objects in `text` are nested at most `depth` deep. A level takes one byte in a
// file and a hundred in memory once parsed. Linear in time; text that is no JSON gets some answer.
bool IsJsonWithinDepth(std::string_view text, int depth);

}  // namespace weir

#endif  // WEIR_TIERING_JSON_DEPTH_H_
