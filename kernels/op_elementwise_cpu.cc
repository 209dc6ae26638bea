#include "io/base.h"
#include "kernels/ops_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/op_elementwise_cpu.cc"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#include "hwy/foreach_target.h"  // first of its kind: compiles this file anew per target
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace weir::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// 1 / (1 + exp(-x)); Highway's Exp is within 1 ulp up to 104 and the bound keeps it there: below
// x = -100 the result is under 1e-43 either way.
template <class D, class V>
V Sigmoid(D d, V x) {
  const auto one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Min(hn::Neg(x), hn::Set(d, 100.0f)))));
}

template <class D, class V>
V Activate(D d, V gate, GateActivation activation) {
  if (activation == GateActivation::kSilu) return hn::Mul(gate, Sigmoid(d, gate));
  // gelu's tanh form, 0.5 x (1 + tanh u) = x * sigmoid(2u): no cancellation for negative x.
  const auto cubic = hn::MulAdd(hn::Mul(gate, gate), hn::Set(d, 0.044715f), hn::Set(d, 1.0f));
  const auto u2 = hn::Mul(hn::Mul(gate, cubic), hn::Set(d, 1.5957691216057308f));  // 2 sqrt(2/pi)
  return hn::Mul(gate, Sigmoid(d, u2));
}

// Elements [begin, end) of one row. Tails run through the same vector code, so that an element's
// result does not depend on where in the row it lies.
void GateRow(const float* gate, const float* up, float* output, uint64_t begin, uint64_t end,
             GateActivation activation) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  uint64_t c = begin;
  for (; c + lanes <= end; c += lanes) {
    const auto active = Activate(d, hn::LoadU(d, gate + c), activation);
    hn::StoreU(hn::Mul(active, hn::LoadU(d, up + c)), d, output + c);
  }
  const hn::CappedTag<float, 1> d1;
  for (; c < end; ++c) {
    const auto active = Activate(d1, hn::LoadU(d1, gate + c), activation);
    hn::StoreU(hn::Mul(active, hn::LoadU(d1, up + c)), d1, output + c);
  }
}

void AddRow(const float* input, float* accumulator, uint64_t begin, uint64_t end) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  uint64_t c = begin;
  for (; c + lanes <= end; c += lanes) {
    hn::StoreU(hn::Add(hn::LoadU(d, accumulator + c), hn::LoadU(d, input + c)), d, accumulator + c);
  }
  for (; c < end; ++c) accumulator[c] += input[c];
}

template <class D>
void CapElements(D d, float* data, float cap) {
  const auto caps = hn::Set(d, cap);
  hn::StoreU(hn::Mul(caps, hn::Tanh(d, hn::Div(hn::LoadU(d, data), caps))), d, data);
}

void CapRow(float* data, uint64_t begin, uint64_t end, float cap) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  uint64_t c = begin;
  for (; c + lanes <= end; c += lanes) CapElements(d, data + c, cap);
  for (; c < end; ++c) CapElements(hn::CappedTag<float, 1>(), data + c, cap);
}

}  // namespace weir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(GateRow);
HWY_EXPORT(AddRow);
HWY_EXPORT(CapRow);

// Below these one core is done before another could help (about 2 us).
constexpr uint64_t kLeastMathElements = 4096;
constexpr uint64_t kLeastAddElements = 16384;

// Calls row(token, begin, end) for this worker's part of tokens x columns, split anywhere.
template <typename Row>
void ForRows(uint32_t tokens, uint32_t columns, uint64_t least_elements, uint32_t worker,
             uint32_t workers, const Row& row) {
  constexpr uint64_t kGrain = 64;  // floats: four cache lines that no two workers share
  const uint64_t pieces = CeilDiv(columns, kGrain);
  const WorkShare share = ShareWork(tokens * pieces, kGrain, least_elements, worker, workers);
  for (uint64_t i = share.begin; i < share.end;) {
    const uint64_t token = i / pieces;
    const uint64_t first = i % pieces;
    const uint64_t count = std::min(pieces - first, share.end - i);
    row(token, first * kGrain, std::min<uint64_t>(columns, (first + count) * kGrain));
    i += count;
  }
}

}  // namespace

void GatedActivationCpu(CpuStream& stream, const GatedActivationArgs& args) {
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream&) {
    ForRows(args.tokens, args.columns, kLeastMathElements, worker, workers,
            [&](uint64_t token, uint64_t begin, uint64_t end) {
              HWY_DYNAMIC_DISPATCH(GateRow)
              (args.gate + token * args.input_stride, args.up + token * args.input_stride,
               args.output + token * args.output_stride, begin, end, args.activation);
            });
  });
}

void AddCpu(CpuStream& stream, const AddArgs& args) {
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream&) {
    ForRows(args.tokens, args.columns, kLeastAddElements, worker, workers,
            [&](uint64_t token, uint64_t begin, uint64_t end) {
              HWY_DYNAMIC_DISPATCH(AddRow)
              (args.input + token * args.input_stride,
               args.accumulator + token * args.accumulator_stride, begin, end);
            });
  });
}

void SoftCapCpu(CpuStream& stream, const SoftCapArgs& args) {
  WEIR_CHECK(args.cap > 0);
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream&) {
    ForRows(args.tokens, args.columns, kLeastMathElements, worker, workers,
            [&](uint64_t token, uint64_t begin, uint64_t end) {
              HWY_DYNAMIC_DISPATCH(CapRow)
              (args.data + token * args.stride, begin, end, args.cap);
            });
  });
}

}  // namespace weir
#endif  // HWY_ONCE
