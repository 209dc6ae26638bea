// What one training step moves and computes when parameters, gradients and the
// optimiser's state lie on disk, and how long that takes on links of given
// rates. Pure.
//
// The step that is counted: all matrices are trained with Adam, in mixed
// precision as ZeRO counts it (Rajbhandari et al. 2019, "ZeRO: Memory
// Optimizations Toward Training Trillion Parameter Models", section 3.1), but
// with gradients in float32. For each parameter
//   working weights, in the file's format      read forward, read backward,
//   written by the update gradient, 4 bytes                          written
//   backward, read by the update Adam's m and v and the master weight, 12 read
//   and written by the update
// so that with W bytes of weights 2 W + 16 P are read and 16 P + W written. A
// gradient goes to disk and back because micro-batches of one step are added up
// there. Backward and update run together, layer by layer, as with state on
// NVMe (Rajbhandari et al. 2021, "ZeRO-Infinity"): the update needs a layer's
// gradient and nothing else. Norms and biases are left out: they are few.
//
// Operations of a token: 2 P forward and 4 P backward (Kaplan et al. 2020,
// "Scaling Laws for Neural Language Models", section 2.1), and where
// activations are not kept 2 P more, for a second forward, layer by layer, from
// weights that backward has in memory anyway. Attention's own products (2 per
// pair of positions and column) are not in it.
//
// Activations that backward needs (after Korthikanti et al. 2022, "Reducing
// Activation Recomputation in Large Transformer Models", section 4, for
// float32, a gated feed-forward, no dropout, and attention whose scores are not
// kept), in floats of one token, with d columns, h query and g KV heads of k
// and v columns, f feed-forward columns and V entries in the vocabulary:
//   a layer:  4 d           the inputs of both norms, the inputs of QKV and of
//   gate and up
//           + h k + g (k + v)   q, k, v      + h v + h   attention's result,
//           its softmax's sums
//           + 3 f           gate, up, their product
//           + h k + g k     where heads are normed: their inputs
//           + 2 d           with norms behind attention and feed-forward: their
//           inputs
//   the head: 2 d + V       its norm's input and result, the logits'
//   probabilities
// Kept: all of it. Recomputed: d for each layer, its input, and the largest
// layer's, or the head's, activations while it is worked on.
#ifndef WEIR_TIERING_TRAINING_COST_H_
#define WEIR_TIERING_TRAINING_COST_H_

#include <cstdint>
#include <string>
#include <vector>

namespace weir {

inline constexpr uint32_t kGradientBytes = 4;       // of a parameter
inline constexpr uint32_t kOptimiserBytes = 3 * 4;  // m, v and the master weight

struct TrainingLayer {
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t feed_forward_columns = 0;
  bool has_head_norms = false;  // of queries and keys
  bool has_post_norms = false;  // behind attention and feed-forward
};

struct TrainingShape {
  double parameters = 0;             // trained
  double multiplied_parameters = 0;  // with each token: without a table that is only looked up
  double weight_bytes = 0;           // of the trained, in the file's format
  double multiplied_bytes = 0;       // of the multiplied, likewise
  uint32_t columns = 0;
  uint32_t key_columns = 0;    // of a head
  uint32_t value_columns = 0;  // likewise
  uint32_t vocabulary = 0;
  std::vector<TrainingLayer> layers;
};

enum class TrainingLink : uint8_t { kDisk, kDram };
enum class TrainingPhase : uint8_t { kForward, kBackward };

struct TrainingFlow {
  std::string what;
  TrainingLink link = TrainingLink::kDisk;
  TrainingPhase phase = TrainingPhase::kForward;
  bool is_write = false;  // to the link's far end: the disk, the DRAM
  double bytes = 0;
};

// Of a step of so many tokens. Over DRAM goes what the disk gives and takes
// (once for the disk, once for the arithmetic) and the activations, kept or
// recomputed.
std::vector<TrainingFlow> TrainingFlows(const TrainingShape& shape, double tokens, bool recomputes);

double LayerActivationFloats(const TrainingShape& shape, const TrainingLayer& layer);
double KeptActivationBytes(const TrainingShape& shape);        // of a token
double RecomputedActivationBytes(const TrainingShape& shape);  // likewise

// Of a token.
struct TrainingOperations {
  double forward = 0;
  double backward = 0;
  double recompute = 0;  // part of neither
};
TrainingOperations OperationsOf(const TrainingShape& shape);

// What one phase moves over the disk's link and computes.
struct TrainingWork {
  double read_bytes = 0;
  double written_bytes = 0;
  double operations = 0;
  double updated_parameters = 0;
};
TrainingWork WorkOf(const TrainingShape& shape, TrainingPhase phase, double tokens,
                    bool recomputes);

// Measured, never typed in.
struct TrainingCeilings {
  double read_bytes_per_s = 0;
  double write_bytes_per_s = 0;
  // Reading and writing the same number of bytes at once, all of them counted.
  // 0: not measured, neither slows the other.
  double mixed_bytes_per_s = 0;
  double operations_per_s = 0;
  double update_parameters_per_s = 0;  // 0: the update takes no time
  // Time that all cores together lose for arithmetic with each byte that the disk moves, while they
  // submit and complete it. 0: none, or other cores do that.
  double core_s_per_disk_byte = 0;
};

// What is read beside writing, or written beside reading, goes at the mixed
// rate, the rest at its own.
double TrafficSeconds(double read_bytes, double written_bytes, const TrainingCeilings& ceilings);

struct PhaseTimes {
  double disk_s = 0;
  double compute_s = 0;
  // The longer of the two, and one unit of the other: what has nothing to run
  // beside.
  double total_s = 0;
};
// The work is cut into `units` equal parts, which are read, computed and
// written one behind the other.
PhaseTimes PredictPhase(const TrainingWork& work, double units, const TrainingCeilings& ceilings);

struct TrainingPrediction {
  double disk_s_per_step = 0;
  double compute_s_per_token = 0;  // of products alone
  // From how many tokens the step's arithmetic takes as long as its disk.
  double break_even_tokens = 0;
  // From how many tokens each phase's does, so that the disk is hidden: forward
  // moves less and cannot lend its time to backward.
  double hidden_tokens = 0;
};
// Whole steps of the model. The rates of disk and operations are there.
TrainingPrediction PredictTraining(const TrainingShape& shape, bool recomputes,
                                   const TrainingCeilings& ceilings);

// A step of so many tokens; units as in PredictPhase.
double PredictStepSeconds(const TrainingShape& shape, double tokens, bool recomputes, double units,
                          const TrainingCeilings& ceilings);

}  // namespace weir

#endif  // WEIR_TIERING_TRAINING_COST_H_
