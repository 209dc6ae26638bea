// Median and extremes of what was measured several times.
#ifndef WEIR_ENGINE_SPREAD_H_
#define WEIR_ENGINE_SPREAD_H_

#include <vector>

namespace weir {

struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;
};

// Of one value at least; of an even number the median is the mean of the two in the middle.
Spread SpreadOf(std::vector<double> values);

}  // namespace weir

#endif  // WEIR_ENGINE_SPREAD_H_
