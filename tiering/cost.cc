#include "tiering/cost.h"

#include <algorithm>

namespace weir {

Prediction Predict(const PassBytes& pass, const Ceilings& ceilings) {
  Prediction prediction;
  const bool disk_known = pass.streamed_bytes == 0 || ceilings.disk_bytes_per_s > 0;
  if (!disk_known || ceilings.compute_bytes_per_s <= 0) return prediction;
  if (pass.streamed_bytes > 0) {
    prediction.disk_s = static_cast<double>(pass.streamed_bytes) / ceilings.disk_bytes_per_s;
  }
  prediction.compute_s = static_cast<double>(pass.computed_bytes) / ceilings.compute_bytes_per_s;
  prediction.pass_s = std::max(prediction.disk_s, prediction.compute_s);
  prediction.bottleneck = prediction.disk_s > prediction.compute_s ? "disk" : "compute";
  if (prediction.pass_s > 0) prediction.decode_tokens_per_s = 1.0 / prediction.pass_s;
  return prediction;
}

}  // namespace weir
