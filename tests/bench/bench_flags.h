// What the microbenchmarks of kernels take beside Google Benchmark's flags.
#ifndef WEIR_TESTS_BENCH_BENCH_FLAGS_H_
#define WEIR_TESTS_BENCH_BENCH_FLAGS_H_

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu_device.h"

namespace weir {

struct BenchFlags {
  uint32_t threads = 2;
  std::string isa;   // "": the best
  uint64_t mib = 0;  // of memory to walk
};

// The value of --name=value among the arguments, which is then removed from them.
inline std::string TakeFlag(std::vector<char*>& arguments, std::string_view name) {
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (argument.substr(0, name.size()) != name) continue;
    std::string value(argument.substr(name.size()));
    arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i));
    return value;
  }
  return "";
}

inline BenchFlags TakeBenchFlags(std::vector<char*>& arguments, std::string_view mib_flag,
                                 uint64_t mib) {
  BenchFlags flags;
  flags.mib = mib;
  const std::string threads = TakeFlag(arguments, "--threads=");
  const std::string mib_text = TakeFlag(arguments, mib_flag);
  flags.isa = TakeFlag(arguments, "--isa=");
  if (!threads.empty()) flags.threads = static_cast<uint32_t>(std::stoul(threads));
  if (!mib_text.empty()) flags.mib = std::stoull(mib_text);
  return flags;
}

// Null where there is none, and why is said.
inline std::unique_ptr<Device> MakeBenchDevice(const BenchFlags& flags) {
  CpuDeviceOptions options;
  options.threads = flags.threads;
  options.isa = flags.isa;
  auto device = MakeCpuDevice(options);
  if (device.ok()) return *std::move(device);
  std::cerr << device.status().message() << "\n";
  return nullptr;
}

// The exit code of the program.
inline int RunBenchmarks(std::vector<char*>& arguments) {
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace weir

#endif  // WEIR_TESTS_BENCH_BENCH_FLAGS_H_
