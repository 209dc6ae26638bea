#include "tiering/sim_disk.h"

#include <algorithm>
#include <cmath>

#include "io/base.h"

namespace weir {
namespace {

constexpr double kByteDust = 1e-3;  // what rounding may leave of a read
constexpr double kNanosPerSecond = 1e9;
constexpr uint32_t kForever = UINT32_MAX;

}  // namespace

SimDisk::SimDisk(const SimDiskOptions& options, const SimFaults& faults)
    : options_(options), faults_(faults) {
  WEIR_CHECK(options.bytes_per_s > 0 && options.read_timeout_ns > 0);
  WEIR_CHECK(faults.throttle_factor >= 1 && faults.slow_factor >= 1 &&
             faults.slow_from_factor >= 1);
}

double SimDisk::Draw(const Read& read, SimDraw what) const {
  return DrawShare(faults_, read.number, read.attempt, what);
}

void SimDisk::Begin(const Transfer& transfer, const Request& request, int64_t now_ns) {
  Read read{.transfer = transfer,
            .number = begun_++,
            .latency_ns = request.latency_ns,
            .begin_ns = now_ns};
  const bool fails = Draw(read, SimDraw::kEioForever) < faults_.eio_forever_share ||
                     faults_.eio_at == std::optional<uint64_t>(read.number) ||
                     read.number >= faults_.unplug_at.value_or(UINT64_MAX);
  if (fails) {
    read.eio_left = kForever;
  } else if (Draw(read, SimDraw::kEio) < faults_.eio_share) {
    read.eio_left = 1 + static_cast<uint32_t>(Draw(read, SimDraw::kEioCount) * kSimMaxEioRetries);
  }
  if (Draw(read, SimDraw::kSlow) < faults_.slow_share) {
    read.slow_factor = faults_.slow_factor;
    ++fault_stats_.slow_reads;
  }
  if (Draw(read, SimDraw::kSpike) < faults_.spike_share) {
    read.spike_ns = faults_.spike_ns;
    ++fault_stats_.spikes;
  }
  read.is_stuck = Draw(read, SimDraw::kStuck) < faults_.stuck_share ||
                  faults_.stuck_at == std::optional<uint64_t>(read.number);
  if (read.is_stuck) ++fault_stats_.stuck_reads;
  BeginAttempt(&read, static_cast<double>(request.bytes), now_ns);
  reads_.insert(request.is_urgent ? reads_.begin() : reads_.end(), read);
}

void SimDisk::BeginAttempt(Read* read, double bytes, int64_t now_ns) {
  double latency_ns = static_cast<double>(read->latency_ns);
  latency_ns *= 1 + faults_.jitter_share * (2 * Draw(*read, SimDraw::kJitter) - 1);
  read->flowing_ns = now_ns + std::llround(latency_ns);
  read->attempt_bytes = bytes;
  read->left_bytes = bytes;
  read->rest_bytes = 0;
  if (Draw(*read, SimDraw::kAgain) < faults_.again_share) ++fault_stats_.busy_errors;
  if (bytes > 1 && Draw(*read, SimDraw::kShort) < faults_.short_share) {
    read->left_bytes = std::max(1.0, std::floor(bytes * Draw(*read, SimDraw::kCut)));
    read->rest_bytes = bytes - read->left_bytes;
    ++fault_stats_.short_attempts;
  }
  ++read->attempt;
}

double SimDisk::BytesPerNs(int64_t now_ns) const {
  double full = options_.bytes_per_s / kNanosPerSecond;
  if (begun_ > faults_.slow_from.value_or(UINT64_MAX)) full /= faults_.slow_from_factor;
  if (!faults_.throttle_at_ns.has_value() || now_ns < *faults_.throttle_at_ns) return full;
  const bool over =
      faults_.throttle_for_ns > 0 && now_ns >= *faults_.throttle_at_ns + faults_.throttle_for_ns;
  return over ? full : full / faults_.throttle_factor;
}

std::optional<int64_t> SimDisk::NextChange(int64_t now_ns) const {
  int64_t next_ns = INT64_MAX;
  const auto consider = [&next_ns, now_ns](int64_t when_ns) {
    next_ns = std::min(next_ns, std::max(when_ns, now_ns + 1));
  };
  const Read* flowing = nullptr;
  for (const Read& read : reads_) {
    consider(read.begin_ns + options_.read_timeout_ns);
    if (read.held_until_ns.has_value()) {
      consider(*read.held_until_ns);
    } else if (IsReadyToFlow(read, now_ns)) {
      if (flowing == nullptr) flowing = &read;
    } else if (!read.is_stuck) {
      consider(read.flowing_ns);
    }
  }
  if (flowing != nullptr) {
    consider(now_ns + static_cast<int64_t>(std::ceil(flowing->left_bytes / BytesPerNs(now_ns))));
    for (const int64_t after_ns : {int64_t{0}, faults_.throttle_for_ns}) {
      const int64_t when_ns = faults_.throttle_at_ns.value_or(0) + after_ns;
      if (faults_.throttle_at_ns.has_value() && when_ns > now_ns) consider(when_ns);
    }
  }
  if (next_ns == INT64_MAX) return std::nullopt;
  return next_ns;
}

void SimDisk::Flow(int64_t now_ns, int64_t to_ns) {
  const auto flowing = std::find_if(reads_.begin(), reads_.end(),
                                    [&](const Read& read) { return IsReadyToFlow(read, now_ns); });
  if (flowing == reads_.end()) return;
  busy_ns_ += to_ns - now_ns;
  flowing->left_bytes -= static_cast<double>(to_ns - now_ns) * BytesPerNs(now_ns);
}

std::optional<SimDisk::End> SimDisk::EndOf(Read* read, int64_t now_ns) {
  const bool too_late = now_ns - read->begin_ns >= options_.read_timeout_ns;
  if (IsReadyToFlow(*read, now_ns) && read->left_bytes <= kByteDust) {
    if (read->eio_left > 0) {
      ++fault_stats_.eio_errors;
      if (read->eio_met++ == kSimMaxEioRetries) return End::kEio;
      if (read->eio_left != kForever) --read->eio_left;
      // What arrived is not trusted: all of it once more.
      BeginAttempt(read, read->attempt_bytes, now_ns);
    } else if (read->rest_bytes > 0) {
      BeginAttempt(read, read->rest_bytes, now_ns);
    } else {
      const double slower = (read->slow_factor - 1) * static_cast<double>(now_ns - read->begin_ns);
      read->held_until_ns = now_ns + read->spike_ns + std::llround(slower);
    }
  }
  if (read->held_until_ns.has_value() && *read->held_until_ns <= now_ns) return End::kGood;
  return too_late ? std::optional<End>(End::kTimeout) : std::nullopt;
}

void SimDisk::Settle(int64_t now_ns, std::vector<Ended>* ended) {
  size_t kept = 0;
  for (Read& read : reads_) {
    const std::optional<End> end = EndOf(&read, now_ns);
    if (end.has_value()) {
      ended->push_back({.transfer = read.transfer,
                        .number = read.number,
                        .end = *end,
                        .begin_ns = read.begin_ns,
                        .end_ns = now_ns});
    } else {
      reads_[kept++] = read;
    }
  }
  reads_.resize(kept);
}

}  // namespace weir
