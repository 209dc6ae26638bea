// StoreKv: to float16, nearest even, four elements a thread where rows allow it. Reads 4 bytes and
// writes 2 an element.
#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/head_columns_cuda.h"
#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kQuad = 4;

// One token's row of keys or of values.
WEIR_DEVICE void StoreRow(const float* from, uint8_t* to, uint32_t elements, bool quads) {
  const uint32_t first = BlockX() * kThreads + ThreadIndex();
  if (quads) {
    if (first >= elements / kQuad) return;
    const Floats4 v = LoadOnce(reinterpret_cast<const Floats4*>(from) + first);
    reinterpret_cast<Words2*>(to)[first] = {StoredHalf(v.x) | StoredHalf(v.y) << 16,
                                            StoredHalf(v.z) | StoredHalf(v.w) << 16};
  } else if (first < elements) {
    reinterpret_cast<uint16_t*>(to)[first] = static_cast<uint16_t>(StoredHalf(from[first]));
  }
}

struct StoreCall {
  StoreKvArgs args;
  uint32_t key_elements;  // of a row
  uint32_t value_elements;
  bool quads;  // rows begin and end at multiples of four elements
};

// Blocks: x elements of a row, y tokens.
WEIR_KERNEL(kThreads, 1) void StoreKvKernel(StoreCall call) {
  const StoreKvArgs& args = call.args;
  const uint32_t page_tokens = args.layout.page_tokens;
  for (uint64_t t = BlockY(); t < args.tokens; t += BlockCountY()) {
    const auto position = static_cast<uint32_t>(args.positions[t]);
    uint8_t* const page = args.pages[position / page_tokens];
    const uint64_t slot = position % page_tokens;
    uint8_t* const values = page + uint64_t{2} * page_tokens * call.key_elements;
    StoreRow(args.keys + t * args.keys_stride, page + 2 * slot * call.key_elements,
             call.key_elements, call.quads);
    StoreRow(args.values + t * args.values_stride, values + 2 * slot * call.value_elements,
             call.value_elements, call.quads);
  }
}

bool FourDivides(uint64_t value) { return value % kQuad == 0; }

}  // namespace

void StoreKvCuda(CudaStream& stream, const StoreKvArgs& args) {
  const KvLayout& l = args.layout;
  WEIR_CHECK(l.page_tokens > 0);
  WEIR_CHECK(l.order == KvOrder::kByToken);
  WEIR_CHECK(l.formats == KvFormats{});
  StoreCall call;
  call.args = args;
  call.key_elements = l.kv_heads * l.key_columns;
  call.value_elements = l.kv_heads * l.value_columns;
  call.quads = FourDivides(call.key_elements) && FourDivides(call.value_elements) &&
               FourDivides(args.keys_stride) && FourDivides(args.values_stride) &&
               FourDivides(reinterpret_cast<uintptr_t>(args.keys) / sizeof(float)) &&
               FourDivides(reinterpret_cast<uintptr_t>(args.values) / sizeof(float));
  const uint32_t most =
      call.key_elements > call.value_elements ? call.key_elements : call.value_elements;
  LaunchShape shape;
  shape.blocks_x = static_cast<uint32_t>(CeilDiv(call.quads ? most / kQuad : most, kThreads));
  shape.blocks_y = args.tokens < 65535 ? args.tokens : 65535;
  shape.threads = kThreads;
  Launch(stream, shape, StoreKvKernel, call);
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
