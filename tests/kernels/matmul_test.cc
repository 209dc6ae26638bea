// MatMul and QuantizeActivations on every format and instruction set.
//
// Float activations: against a double-precision sum. A chunk of 2048 columns adds 128 products to
// each of 16 sums and then halves them, so with u = 2^-24 and k chunks the error is at most (128 +
// 4 + k + 2) u sum|w x|, plus u |w| an element where the format's own decoding rounds (three
// roundings at most).
// Quantised activations: bit for bit against the order of summation that kernels/matmul_cpu.h
// states, and against the true product within half a quantisation step an element.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cpu_device.h"
#include "kernels/device.h"
#include "kernels/isa.h"
#include "kernels/ops.h"
#include "tests/kernels/reference_helper.h"

namespace weir {
namespace {

struct Shape {
  uint32_t rows;
  uint32_t columns;  // in blocks of the format where `blocks`
  uint32_t tokens;
};

// A product's operands, with the weight at an odd address and nothing after it.
struct Operands {
  Operands(DType dtype_in, uint32_t rows_in, uint32_t columns_in, uint32_t tokens_in, uint64_t seed)
      : dtype(dtype_in), rows(rows_in), columns(columns_in), tokens(tokens_in) {
    const std::vector<uint8_t> bytes = RandomWeights(dtype, rows, columns, seed);
    memory = std::make_unique<uint8_t[]>(bytes.size() + 3);
    weight = memory.get() + 3;
    memcpy(memory.get() + 3, bytes.data(), bytes.size());
    stride = columns + 5;
    input = RandomActivations(tokens * stride, seed + 1);
    // The last row ends where the memory does.
    input.resize(tokens * stride - 5);
    bias = RandomActivations(rows, seed + 2);
    residual = RandomActivations(uint64_t{tokens} * rows, seed + 3);
    Decode();
  }

  // Anew, when the weight was changed.
  void Decode() {
    elements.clear();
    parts.clear();
    for (uint32_t r = 0; r < rows; ++r) {
      const uint8_t* row = weight + r * RowBytes(dtype, columns);
      for (uint32_t c = 0; c < columns; ++c) {
        elements.push_back(ReferenceElement(dtype, row, c));
        if (UsesQuantizedActivations(dtype)) parts.push_back(ReferencePartsOf(dtype, row, c));
      }
    }
  }

  // Magnitude of what a decoded weight was rounded from: an offset can cancel the rest of a weight,
  // but not its rounding.
  double Magnitude(uint64_t element) const {
    if (parts.empty()) return std::fabs(elements[element]);
    const ReferenceParts& p = parts[element];
    return std::fabs(static_cast<double>(p.scale) * p.integer) + std::fabs(p.offset);
  }

  DType dtype;
  uint32_t rows, columns, tokens;
  std::unique_ptr<uint8_t[]> memory;
  const uint8_t* weight;
  uint64_t stride;
  std::vector<float> input, bias, residual;
  std::vector<double> elements;       // [rows, columns], decoded
  std::vector<ReferenceParts> parts;  // the same; empty for float formats
};

constexpr ActivationFormat kQuantized[] = {ActivationFormat::kQ16, ActivationFormat::kQ8};

struct Options {
  ActivationFormat format = ActivationFormat::kF32;
  bool bias = false;
  bool accumulate = false;
  uint32_t first_token = 0;  // with `tokens` of them
  uint32_t tokens = 0;       // 0: all
  uint32_t piece_rows = 0;   // 0: the weight in one piece
};

class Runner {
 public:
  explicit Runner(uint32_t threads, const std::string& isa = "") {
    CpuDeviceOptions options;
    options.threads = threads;
    options.isa = isa;
    device_ = *MakeCpuDevice(options);
    stream_ = device_->NewStream();
  }

  // [tokens, rows] of the tokens asked for.
  std::vector<float> Run(const Operands& o, const Options& options) {
    const uint32_t tokens = options.tokens ? options.tokens : o.tokens;
    const float* input = o.input.data() + options.first_token * o.stride;
    std::vector<float> output(uint64_t{tokens} * o.rows, std::nanf(""));
    if (options.accumulate) {
      const float* residual = o.residual.data() + uint64_t{options.first_token} * o.rows;
      std::copy(residual, residual + output.size(), output.begin());
    }
    MatMulArgs args;
    if (options.format != ActivationFormat::kF32) {
      quantized_ = *device_->Allocate(QuantizedActivationBytes(tokens, o.columns), 64, Touch::kNow);
      QuantizeActivations(*stream_,
                          {input, o.stride, quantized_->data(), tokens, o.columns, options.format});
      args.quantized = quantized_->data();
      args.quantized_format = options.format;
    } else {
      args.input = input;
      args.input_stride = o.stride;
    }
    args.dtype = o.dtype;
    args.output_stride = o.rows;
    args.tokens = tokens;
    args.columns = o.columns;
    args.accumulate = options.accumulate;
    const uint32_t piece_rows = options.piece_rows ? options.piece_rows : o.rows;
    for (uint32_t row = 0; row < o.rows; row += piece_rows) {
      args.weight = o.weight + row * RowBytes(o.dtype, o.columns);
      args.rows = std::min(piece_rows, o.rows - row);
      args.bias = options.bias ? o.bias.data() + row : nullptr;
      args.output = output.data() + row;
      MatMul(*stream_, args);
    }
    stream_->Wait(stream_->Record());
    return output;
  }

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<Buffer> quantized_;
  std::unique_ptr<Stream> stream_;
};

// Bits rather than values, so that NaN and -0 count.
void ExpectSameBits(const std::vector<float>& a, const std::vector<float>& b, const char* what) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    uint32_t x, y;
    memcpy(&x, &a[i], 4);
    memcpy(&y, &b[i], 4);
    ASSERT_EQ(x, y) << what << " at " << i << ": " << a[i] << " and " << b[i];
  }
}

float Finish(const Operands& o, const Options& options, uint32_t token, uint32_t row, float sum) {
  if (options.bias) sum += o.bias[row];
  return options.accumulate ? o.residual[uint64_t{token} * o.rows + row] + sum : sum;
}

void CheckFloat(const Operands& o, const Options& options, const std::vector<float>& output) {
  const double unit = std::ldexp(1.0, -24);
  const double steps = 128 + 4 + std::ceil(o.columns / 2048.0) + 2 + 3;
  for (uint32_t t = 0; t < o.tokens; ++t) {
    const float* x = o.input.data() + t * o.stride;
    for (uint32_t r = 0; r < o.rows; ++r) {
      const uint64_t row = uint64_t{r} * o.columns;
      double sum = 0, magnitude = 0;
      for (uint32_t c = 0; c < o.columns; ++c) {
        sum += o.elements[row + c] * x[c];
        magnitude += o.Magnitude(row + c) * std::fabs(x[c]);
      }
      double want = sum;
      if (options.bias) want += o.bias[r];
      if (options.accumulate) want += o.residual[uint64_t{t} * o.rows + r];
      const double tolerance = unit * (steps * magnitude + 2 * (std::fabs(want) + std::fabs(sum)));
      const float got = output[uint64_t{t} * o.rows + r];
      ASSERT_LE(std::fabs(got - want), tolerance) << "token " << t << " row " << r;
    }
  }
}

void CheckQuantized(const Operands& o, const Options& options, const std::vector<float>& output) {
  std::vector<float> want;
  for (uint32_t t = 0; t < o.tokens; ++t) {
    const float* x = o.input.data() + t * o.stride;
    const int most = options.format == ActivationFormat::kQ16 ? 255 * 127 + 127 : 127;
    const ReferenceQuantized input = ReferenceQuantize(x, o.columns, most);
    for (uint32_t r = 0; r < o.rows; ++r) {
      const uint64_t row = uint64_t{r} * o.columns;
      const float dot =
          ReferenceQuantizedDot(o.parts.data() + row, ReferenceGroupElements(o.dtype), input);
      want.push_back(Finish(o, options, t, r, dot));
      // Half a step of every activation, and the float sum: two roundings a group.
      double sum = 0, step = 0, magnitude = 0;
      for (uint32_t c = 0; c < o.columns; ++c) {
        const double w = o.elements[row + c], scale = input.scales[c / 32];
        sum += w * x[c];
        step += std::fabs(w) * scale * 0.5;
        magnitude += o.Magnitude(row + c) * scale * most;
      }
      const double exact = Finish(o, options, t, r, static_cast<float>(sum));
      const double roundings = 4 * (o.columns / 16.0);
      const double tolerance = 1.0001 * step + std::ldexp(roundings, -24) * magnitude +
                               std::ldexp(std::fabs(exact), -22);
      ASSERT_LE(std::fabs(want.back() - exact), tolerance) << "token " << t << " row " << r;
    }
  }
  ExpectSameBits(want, output, "reference and kernel");
}

class MatMulTest : public testing::TestWithParam<std::tuple<DType, std::string>> {
 protected:
  DType dtype() const { return std::get<0>(GetParam()); }
  std::string isa() const { return std::get<1>(GetParam()); }
  uint32_t BlockColumns() const { return std::max(GetDTypeInfo(dtype()).block_elements, 32u); }
};

TEST_P(MatMulTest, AgreesWithTheReference) {
  Runner runner(2, isa());
  const uint32_t block = BlockColumns();
  const Shape shapes[] = {{1, block, 1},
                          {3, block, 2},
                          {17, 3 * block, 3},
                          {40, 5 * block, 5},
                          {7, 9 * block, 8},
                          {33, 2 * block, 17},
                          {3, 768, 64},
                          {2, 14336, 2},
                          {19, 768, 1},
                          // Around the steps of eight blocks in which one token is multiplied.
                          {16, 7 * block, 1},
                          {33, 8 * block, 1},
                          {17, 9 * block, 1},
                          {48, 15 * block, 1},
                          {16, 17 * block, 1},
                          {16, 24 * block, 1}};
  uint64_t seed = 100;
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(testing::Message() << shape.rows << " x " << shape.columns << ", " << shape.tokens
                                    << " tokens, seed " << seed);
    const Operands o(dtype(), shape.rows, shape.columns, shape.tokens, seed++);
    for (const bool extras : {false, true}) {
      Options options;
      options.bias = options.accumulate = extras;
      CheckFloat(o, options, runner.Run(o, options));
      if (HasFatalFailure()) return;
      if (!UsesQuantizedActivations(dtype())) continue;
      for (const ActivationFormat format : kQuantized) {
        options.format = format;
        CheckQuantized(o, options, runner.Run(o, options));
        if (HasFatalFailure()) return;
      }
    }
  }
}

// A token's result depends neither on the threads, nor on the tokens beside it, nor on the pieces
// of the weight, nor on the instruction set.
TEST_P(MatMulTest, SameBitsHoweverItIsDone) {
  Runner one(1, isa()), two(2, isa()), three(3, isa());
  const Operands o(dtype(), 75, BlockColumns() == 32 ? 2336 : 2304, 23, 7);
  for (const ActivationFormat format :
       {ActivationFormat::kF32, ActivationFormat::kQ16, ActivationFormat::kQ8}) {
    if (format != ActivationFormat::kF32 && !UsesQuantizedActivations(dtype())) continue;
    Options options;
    options.format = format;
    options.bias = options.accumulate = true;
    const std::vector<float> whole = one.Run(o, options);
    ExpectSameBits(whole, two.Run(o, options), "1 and 2 threads");
    ExpectSameBits(whole, three.Run(o, options), "1 and 3 threads");
    for (const uint32_t piece_rows : {1u, 5u, 16u, 31u, 48u}) {
      options.piece_rows = piece_rows;
      ExpectSameBits(whole, two.Run(o, options), "whole weight and pieces");
    }
    options.piece_rows = 0;
    for (const uint32_t tokens : {1u, 2u, 3u, 4u, 7u, 9u, 15u, 16u}) {
      options.tokens = tokens;
      for (options.first_token = 0; options.first_token + tokens <= o.tokens;
           options.first_token += tokens) {
        const auto from = whole.begin() + options.first_token * o.rows;
        ExpectSameBits({from, from + tokens * o.rows}, two.Run(o, options), "all tokens and some");
      }
    }
    options.tokens = options.first_token = 0;
    ASSERT_TRUE(SelectIsa("AVX2").ok());
    ExpectSameBits(whole, two.Run(o, options), "this instruction set and AVX2");
    ASSERT_TRUE(SelectIsa(isa()).ok());
  }
}

// More tokens than are multiplied at once.
TEST_P(MatMulTest, ManyTokens) {
  Runner runner(2, isa());
  const Operands o(dtype(), 19, BlockColumns(), 267, 11);
  CheckFloat(o, {}, runner.Run(o, {}));
  if (!UsesQuantizedActivations(dtype())) return;
  for (const ActivationFormat format : kQuantized) {
    Options options;
    options.format = format;
    CheckQuantized(o, options, runner.Run(o, options));
  }
}

// Every value and scale of Q6_K as far from zero as it goes, times equal activations: its groups'
// integers just fit.
TEST(MatMulLimitsTest, LargestProductsOfQ6_K) {
  for (const std::string& isa : SupportedIsas()) {
    Runner runner(2, isa);
    for (const uint32_t tokens : {1u, 2u, 16u}) {
      SCOPED_TRACE(testing::Message() << isa << ", " << tokens << " tokens");
      Operands o(DType::kQ6_K, 17, 512, tokens, 5);
      const uint64_t blocks = o.rows * o.columns / 256;
      for (uint64_t b = 0; b < blocks; ++b) {
        uint8_t* const block = o.memory.get() + 3 + 210 * b;
        std::fill_n(block, 192, uint8_t{0});          // 0 - 32
        std::fill_n(block + 192, 16, uint8_t{0x80});  // -128
      }
      o.Decode();
      std::fill(o.input.begin(), o.input.end(), 1.0f);
      Options options;
      options.format = ActivationFormat::kQ16;
      CheckQuantized(o, options, runner.Run(o, options));
    }
  }
}

std::vector<DType> AllOfThem() {
  std::vector<DType> dtypes;
  for (const DTypeInfo& info : AllDTypes()) dtypes.push_back(info.dtype);
  return dtypes;
}

INSTANTIATE_TEST_SUITE_P(Formats, MatMulTest,
                         testing::Combine(testing::ValuesIn(AllOfThem()),
                                          testing::ValuesIn(SupportedIsas())),
                         [](const testing::TestParamInfo<MatMulTest::ParamType>& param) {
                           return std::string(GetDTypeInfo(std::get<0>(param.param)).name) + "_" +
                                  std::get<1>(param.param);
                         });

TEST(MatMulFloatTest, ColumnsOfAnyNumber) {
  Runner runner(2);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const uint32_t columns : {1u, 7u, 8u, 15u, 16u, 17u, 31u, 63u, 2047u, 2049u, 4111u}) {
      SCOPED_TRACE(testing::Message() << GetDTypeInfo(dtype).name << ", " << columns << " columns");
      const Operands few(dtype, 5, columns, 3, columns);
      CheckFloat(few, {}, runner.Run(few, {}));
      const Operands once(dtype, 19, columns, 1, columns);
      CheckFloat(once, {}, runner.Run(once, {}));
    }
  }
}

TEST(QuantizeActivationsTest, NanAndInfinityReachTheOutput) {
  Runner runner(1);
  for (const float poison : {std::nanf(""), -std::nanf(""), INFINITY, -INFINITY}) {
    Operands o(DType::kQ4_0, 3, 128, 2, 5);
    o.input[40] = poison;
    Options options;
    options.format = ActivationFormat::kQ16;
    const std::vector<float> output = runner.Run(o, options);
    for (uint32_t r = 0; r < o.rows; ++r) {
      EXPECT_FALSE(std::isfinite(output[r]));
      EXPECT_TRUE(std::isfinite(output[o.rows + r]));
    }
  }
}

TEST(QuantizeActivationsTest, TinyGroupsAreZero) {
  Runner runner(1);
  Operands o(DType::kQ8_0, 2, 64, 1, 5);
  for (uint32_t c = 0; c < 64; ++c) o.input[c] = c < 32 ? 1e-40f : 1.0f;
  Options options;
  options.format = ActivationFormat::kQ8;
  const std::vector<float> with_tiny = runner.Run(o, options);
  for (uint32_t c = 0; c < 32; ++c) o.input[c] = 0;
  ExpectSameBits(runner.Run(o, options), with_tiny, "zero and tiny");
  for (const float value : with_tiny) EXPECT_TRUE(std::isfinite(value));
}

}  // namespace
}  // namespace weir
