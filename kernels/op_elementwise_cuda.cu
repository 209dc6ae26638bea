// GatedActivation, Add and SoftCap: bandwidth-bound, an element a thread. At T = 1 these are a few
// microseconds of launch and latency; only fusing them would make them faster.
#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 256;

// One block row a token: blocks_y counts tokens, in steps of the grid's height.
LaunchShape ElementShape(uint32_t tokens, uint32_t columns) {
  LaunchShape shape;
  shape.blocks_x = static_cast<uint32_t>(CeilDiv(columns, kThreads));
  shape.blocks_y = tokens < 65535 ? tokens : 65535;
  shape.threads = kThreads;
  shape.early = true;
  return shape;
}

WEIR_DEVICE uint32_t ColumnOfThread() { return BlockX() * kThreads + ThreadIndex(); }

WEIR_DEVICE float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

WEIR_DEVICE float Activate(float gate, GateActivation activation) {
  // exp(-x) overflows to infinity for x below -88, and gate / infinity is the zero it should be.
  if (activation == GateActivation::kSilu) return gate * Sigmoid(gate);
  // gelu's tanh form, 0.5 x (1 + tanh u) = x * sigmoid(2u): no cancellation for negative x.
  const float cubic = Fma(gate * gate, 0.044715f, 1.0f);
  return gate * Sigmoid(gate * cubic * 1.5957691216057308f);  // 2 sqrt(2 / pi)
}

WEIR_KERNEL(kThreads, 1) void GateKernel(GatedActivationArgs args) {
  LetNextBegin();
  WaitForPrevious();
  const uint32_t c = ColumnOfThread();
  if (c >= args.columns) return;
  for (uint64_t t = BlockY(); t < args.tokens; t += BlockCountY()) {
    const float gate = args.gate[t * args.input_stride + c];
    const float up = args.up[t * args.input_stride + c];
    args.output[t * args.output_stride + c] = Activate(gate, args.activation) * up;
  }
}

WEIR_KERNEL(kThreads, 1) void AddKernel(AddArgs args) {
  LetNextBegin();
  WaitForPrevious();
  const uint32_t c = ColumnOfThread();
  if (c >= args.columns) return;
  for (uint64_t t = BlockY(); t < args.tokens; t += BlockCountY()) {
    args.accumulator[t * args.accumulator_stride + c] += args.input[t * args.input_stride + c];
  }
}

WEIR_KERNEL(kThreads, 1) void CapKernel(SoftCapArgs args) {
  LetNextBegin();
  WaitForPrevious();
  const uint32_t c = ColumnOfThread();
  if (c >= args.columns) return;
  for (uint64_t t = BlockY(); t < args.tokens; t += BlockCountY()) {
    float* const data = args.data + t * args.stride + c;
    *data = args.cap * Tanh(*data / args.cap);
  }
}

}  // namespace

void GatedActivationCuda(CudaStream& stream, const GatedActivationArgs& args) {
  Launch(stream, ElementShape(args.tokens, args.columns), GateKernel, args);
}

void AddCuda(CudaStream& stream, const AddArgs& args) {
  Launch(stream, ElementShape(args.tokens, args.columns), AddKernel, args);
}

void SoftCapCuda(CudaStream& stream, const SoftCapArgs& args) {
  WEIR_CHECK(args.cap > 0);
  Launch(stream, ElementShape(args.tokens, args.columns), CapKernel, args);
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
