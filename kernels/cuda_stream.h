// What the ops of kernels/ops_cuda.h see of a CUDA stream. Two implementations: the CUDA device's,
// and the host grid (tests/kernels/host_grid/), on which the same kernels run without a GPU.
//
// As with every Stream (kernels/device.h), calls enqueue and return; one host thread at a time. All
// pointers that ops take, tables of addresses included, are the device's.
#ifndef WEIR_KERNELS_CUDA_STREAM_H_
#define WEIR_KERNELS_CUDA_STREAM_H_

#include <cstdint>

#include "kernels/device.h"
#include "kernels/ops.h"

namespace weir {

class CudaStream;

// c[m, n] = a[m, k] * b[n, k]^T, summed in float32. Row-major, strides in elements from row to row;
// addresses and strides of a and b are multiples of 8 elements (16 bytes).
struct GemmArgs {
  const uint16_t* a;  // float16 [m, k]
  uint64_t a_stride;
  const uint16_t* b;  // float16 [n, k]
  uint64_t b_stride;
  float* c;  // [m, n]
  uint64_t c_stride;
  uint32_t m;
  uint32_t n;
  uint32_t k;
};

// How many threads run a kernel.
struct LaunchShape {
  uint32_t blocks_x = 1;
  uint32_t blocks_y = 1;      // at most 65535
  uint32_t threads = 32;      // of a block: a multiple of 32, at most 1024
  uint32_t shared_bytes = 0;  // of a block's dynamic shared memory; may exceed 48 KiB
  // The kernel may begin while the one before is still running (programmatic dependent launch,
  // compute capability 9): its launch is hidden, and it may read ahead what no kernel writes. Each
  // of its threads calls WaitForPrevious before it touches anything else. A device that cannot do
  // so begins it afterwards.
  bool early = false;
};

// A kernel and its one parameter, both copied before Launch returns. Made by Launch of
// kernels/cuda_launch.h only.
struct KernelCall {
  const void* function;  // as cudaLaunchKernel takes it
  const void* argument;
  // Calls the function once, for one thread of the host grid; null for kernels that nvcc compiled.
  void (*run_thread)(const void* function, const void* argument);
  uint32_t argument_bytes;
};

// Reads [data, data + bytes): what a device's memory gives at most.
struct ReadBytesArgs {
  const uint8_t* data;  // 16-byte aligned
  uint64_t bytes;       // a multiple of 16
  uint32_t* sum;        // of all words modulo 2^32 is added to it
};

// The ops as one build of the kernels has them: for the device, or for the host grid. ops.cc calls
// them by way of the stream.
struct CudaOps {
  void (*quantize_activations)(CudaStream& stream, const QuantizeActivationsArgs& args);
  void (*mat_mul)(CudaStream& stream, const MatMulArgs& args);
  void (*embed_rows)(CudaStream& stream, const EmbedRowsArgs& args);
  void (*rms_norm)(CudaStream& stream, const RmsNormArgs& args);
  void (*rope)(CudaStream& stream, const RopeArgs& args);
  void (*store_kv)(CudaStream& stream, const StoreKvArgs& args);
  void (*prepare_attention)(CudaStream& stream, const PrepareAttentionArgs& args);
  void (*attention)(CudaStream& stream, const AttentionArgs& args);
  void (*gated_activation)(CudaStream& stream, const GatedActivationArgs& args);
  void (*add)(CudaStream& stream, const AddArgs& args);
  void (*soft_cap)(CudaStream& stream, const SoftCapArgs& args);
  void (*top_logits)(CudaStream& stream, const TopLogitsArgs& args);
  void (*read_bytes)(CudaStream& stream, const ReadBytesArgs& args);  // for measuring
};

class CudaStream : public Stream {
 public:
  DeviceKind kind() const final { return DeviceKind::kCuda; }
  // The build of the kernels that this stream runs.
  virtual const CudaOps& ops() const = 0;

  // Device memory for an op's temporaries, 256-byte aligned, the stream's own: an op may use all of
  // it, and finds there what the op before left. kLeastScratchBytes or more.
  static constexpr uint64_t kLeastScratchBytes = 8 * kMiB;
  virtual uint8_t* scratch() = 0;
  virtual uint64_t scratch_bytes() const = 0;
  virtual uint32_t multiprocessors() const = 0;

  // Enqueues a kernel. A launch that is refused is a bug of ours: it ends the program.
  virtual void Launch(const KernelCall& call, const LaunchShape& shape) = 0;
  // Enqueues a matrix product; equal arguments give equal results.
  virtual void Gemm(const GemmArgs& args) = 0;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_STREAM_H_
