// Text out of a file, as it may stand in a message.
#ifndef WEIR_MODELS_PRINTABLE_H_
#define WEIR_MODELS_PRINTABLE_H_

#include <string>
#include <string_view>

namespace weir {

// `text` as ASCII without control characters (they and other bytes as "\x1b"), so that a name can
// neither steer a terminal nor break a line; of a long text its beginning and its size.
std::string Printable(std::string_view text);

}  // namespace weir

#endif  // WEIR_MODELS_PRINTABLE_H_
