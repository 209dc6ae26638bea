// `weir probe`, and `weir probe disk FILE`: how fast this file can be read, by block size, depth
// and reader.
#ifndef WEIR_TOOLS_CMD_PROBE_H_
#define WEIR_TOOLS_CMD_PROBE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/hardware_probe.h"
#include "engine/saved_ceilings.h"
#include "nlohmann/json.hpp"
#include "tools/cli_app.h"

namespace weir {

struct ProbeDiskOptions {
  std::string file;
  std::string json;                  // file; "-": standard output instead of the table
  std::vector<std::string> blocks;   // sizes as ParseBytes takes them; empty: the default
  std::vector<uint32_t> depths;      // empty: the default
  std::vector<std::string> readers;  // empty: those that work here, and "auto" says so
  double seconds = 0.3;              // for one combination in one round
  int rounds = 3;
  bool random = false;  // small reads of random blocks instead of reading on; nothing is saved
  // Save what suits the disk, for runs and predictions. By default when nothing was left out.
  std::optional<bool> save;
};

// The sweep that the options ask for, with every value checked.
absl::StatusOr<DiskSweepOptions> MakeSweep(const ProbeDiskOptions& options);

// What --json writes:
//   {"file", "file_bytes", "order", "direct", "alignment_bytes",
//    "disk": {"device", "name", "model", "file_system"},
//    "cells": [{"reader", "block_bytes", "depth", "gb_per_s", "low_gb_per_s", "high_gb_per_s",
//               "p50_latency_us", "p99_latency_us", "read_bytes", "kernel_read_bytes", "note"}]}
// order is "sequential" or "random"; gb_per_s is the median round's, in 10^9 bytes; bytes and
// latencies are of that round. kernel_read_bytes is null where the kernel does not count.
nlohmann::json SweepToJson(const File& file, const DiskIdentity& disk, bool is_random,
                           const std::vector<DiskSweepCell>& cells);
// The same as a table of lines.
std::string SweepToText(const File& file, const DiskIdentity& disk, bool is_random,
                        const std::vector<DiskSweepCell>& cells);

// For each reader in `cells` the reads that suit this disk best.
std::vector<DiskCeiling> BestReadings(const DiskIdentity& disk,
                                      const std::vector<DiskSweepCell>& cells);

// Saves them for runs if `save`; sentences to print, one a line.
std::string KeepCeilings(const std::vector<DiskCeiling>& best, bool save);

// Runs the command; the status carries its exit code.
absl::Status RunProbeDisk(const ProbeDiskOptions& options);

// Adds `disk` to `weir probe`; when it is chosen, `*exit_code` becomes the process's exit code.
void AddProbeDiskCommand(CLI::App& probe, int* exit_code);

// Adds the command with all of its subcommands; when it is chosen, `*exit_code` becomes the
// process's exit code.
void AddProbeCommand(CLI::App& app, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_PROBE_H_
