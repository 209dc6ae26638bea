// HostProducts: matrix products that the CPU computes for an accelerator, on weights in host
// memory: the activations cross the link, not the weights.
//
// Products come in groups that read one input (q, k and v; gate and up; the pieces of one matrix).
// A group's input is copied out once, as soon as the compute stream has made it; each product's
// result is copied in as soon as the CPU is done; the compute stream waits for the results when the
// group is closed, and not before. So both devices work on one group at once.
//
// A result is, bit for bit, what MatMul on the CPU device gives: (sum + bias) [+ output].
#ifndef WEIR_ENGINE_HOST_PRODUCTS_H_
#define WEIR_ENGINE_HOST_PRODUCTS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/device.h"
#include "kernels/ops.h"
#include "models/config.h"

namespace weir {

// Memory for passes of up to `tokens` tokens and `logit_rows` of logits.
struct HostProductsShape {
  uint32_t tokens = 0;
  uint32_t logit_rows = 0;
};

// [T, columns] in the accelerator's memory, at `stride` floats from row to row.
struct ProductInput {
  const float* data = nullptr;
  uint64_t stride = 0;
  uint32_t columns = 0;
  uint32_t tokens = 0;
};

class HostProducts {
 public:
  // Page-aligned, touched and pinned.
  static uint64_t HostBytes(const ModelConfig& config, const HostProductsShape& shape);
  // Of the accelerator's: results before they are added up.
  static uint64_t DeviceBytes(const ModelConfig& config, const HostProductsShape& shape);

  // All borrowed; they outlive this.
  struct Streams {
    Stream* compute = nullptr;   // of the accelerator
    Stream* download = nullptr;  // copies
    Stream* upload = nullptr;    // copies
    Stream* cpu = nullptr;       // of the CPU device
  };
  struct Options {
    ActivationFormat activations = ActivationFormat::kQ16;
    HostProductsShape shape;
    uint8_t* host_memory = nullptr;
    uint8_t* device_memory = nullptr;
    std::vector<bool> groups;    // by number: whether the CPU has a part in it
    uint32_t most_products = 0;  // of one group
  };
  HostProducts(const ModelConfig& config, const Streams& streams, const Options& options);

  // Forgets a group that a failed pass left open; its copies have ended then.
  void BeginPass();
  // The products to come, on either device, are of this group and read `input`, which everything
  // enqueued on the compute stream so far has made. Nothing when the CPU has no part in the group.
  void Open(uint32_t group, const ProductInput& input);
  // A product of the open group by the CPU. Weight and bias are in host memory, the output is the
  // accelerator's; the arguments' inputs are not used. `first_row`: where its rows begin among all
  // rows of the group, on either device.
  void Multiply(const MatMulArgs& product, uint32_t first_row);
  // Everything enqueued on the compute stream from now on sees the group's results.
  void Close();

 private:
  struct Sum {
    const float* input;
    float* output;
    uint64_t output_stride;
    uint32_t rows;
  };

  void FetchInput(const ProductInput& input);
  void StartProducts();
  void Quantize();
  void CopyIn(const MatMulArgs& product, const float* result, uint32_t first_row);

  const Streams streams_;
  const Options options_;
  float* input_ = nullptr;         // [T, columns], of the open group
  uint8_t* quantized_ = nullptr;   // the same as QuantizeActivations makes it
  float* results_ = nullptr;       // of the open group: [T, rows] of each product
  float* added_ = nullptr;         // the same, on the accelerator
  std::optional<uint32_t> group_;  // the one that is open
  ProductInput shape_;             // of its input
  Event input_there_;              // on the download stream
  bool is_started_ = false;        // the CPU waits for the input
  bool is_quantized_ = false;
  std::vector<Sum> sums_;  // to be added to their outputs
};

}  // namespace weir

#endif  // WEIR_ENGINE_HOST_PRODUCTS_H_
