// Options that every command which runs a model shares: what to open, within which budget, how.
#ifndef WEIR_TOOLS_MODEL_OPTIONS_H_
#define WEIR_TOOLS_MODEL_OPTIONS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "tools/cli_app.h"
#include "tools/device_options.h"
#include "tools/disk_ceiling.h"

namespace weir {

// As given; texts are parsed where they are used, by functions that name the option in errors.
struct ModelOptions {
  std::string model;
  std::string dram;      // SIZE
  std::string resident;  // PERCENT
  std::string plan_file;
  std::string reader = "auto";
  std::string read_size;    // SIZE; empty: as probed, or a default
  uint32_t read_depth = 0;  // 0: likewise
  std::string faults;
  std::string read_timeout = "60s";  // TIME
  std::string activations = "q16";
  std::string read_ahead;                  // "on", "off"; empty: on, or what the saved plan says
  std::string cache_type_k, cache_type_v;  // empty: f16, or what the saved plan says
  std::string isa;
  DeviceFlags device;
  uint32_t threads = 0;  // 0: one for each core that this process may use
  uint32_t context_tokens = 0;
  uint32_t chunk_tokens = 0;
  bool is_quiet = false;  // neither remarks when an engine opens nor progress of prompts
  std::string json_path;
  std::string trace_path;
  // The plan is for hardware that is not here (`weir simulate`): this machine's limits do not
  // apply, an accelerator is there when device.hbm is given, and these are the rates of its disk, 0
  // where it is this machine's, and of the link.
  bool is_elsewhere = false;
  double elsewhere_disk_bytes_per_s = 0;
  double elsewhere_link_bytes_per_s = 0;
};

// MODEL, --dram, --resident, --plan, -c, -b: what decides a plan, --device and its kin apart.
void AddPlanOptions(CLI::App& command, ModelOptions* options);
// The above, --device and its kin, --reader, --read-timeout, --faults: what decides a run.
void AddRunOptions(CLI::App& command, ModelOptions* options);

// InvalidArgument etc. with the option's name in front, and the exit code of a usage error.
absl::Status OptionError(const char* option, const absl::Status& status);

absl::StatusOr<std::unique_ptr<Model>> OpenModel(const ModelOptions& options);
// What was asked for, else what suits the disk.
absl::StatusOr<DiskReading> ReadingFrom(const Model& model, const ModelOptions& options);
uint32_t ThreadsFrom(const ModelOptions& options);

}  // namespace weir

#endif  // WEIR_TOOLS_MODEL_OPTIONS_H_
