#include "tiering/cost.h"

#include <algorithm>

namespace weir {
namespace {

constexpr double kNanosPerSecond = 1e9;

}  // namespace

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

Prediction InTurn(Prediction prediction) {
  if (prediction.pass_s <= 0) return prediction;  // not known
  prediction.pass_s =
      prediction.disk_s + prediction.link_s + prediction.compute_s + prediction.host_compute_s;
  prediction.decode_tokens_per_s = 1.0 / prediction.pass_s;
  return prediction;
}

Prediction PredictAccelerated(const AcceleratedPass& pass, const Ceilings& ceilings) {
  Prediction prediction;
  if (pass.streamed_bytes > 0) {
    if (ceilings.disk_bytes_per_s <= 0) return prediction;
    prediction.disk_s = static_cast<double>(pass.streamed_bytes) / ceilings.disk_bytes_per_s;
  }
  if (pass.copied_bytes > 0) {
    if (ceilings.link_bytes_per_s <= 0) return Prediction();
    prediction.link_s = static_cast<double>(pass.copied_bytes) / ceilings.link_bytes_per_s;
  }
  const double crossing_s = 2 * static_cast<double>(ceilings.link_latency_ns) / kNanosPerSecond;
  double path_s = 0;
  for (const GroupTimes& group : pass.groups) {
    prediction.compute_s += group.compute_s;
    prediction.host_compute_s += group.host_compute_s;
    const bool crosses = group.host_compute_s > 0;
    path_s += std::max(group.compute_s, crosses ? group.host_compute_s + crossing_s : 0);
  }
  prediction.pass_s = std::max({prediction.disk_s, prediction.link_s, path_s});
  if (path_s >= prediction.pass_s) {
    prediction.bottleneck = prediction.host_compute_s > prediction.compute_s ? "cpu" : "compute";
  } else {
    prediction.bottleneck = prediction.disk_s >= prediction.pass_s ? "disk" : "link";
  }
  if (prediction.pass_s > 0) prediction.decode_tokens_per_s = 1.0 / prediction.pass_s;
  return prediction;
}

}  // namespace weir
