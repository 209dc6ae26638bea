#include "kernels/cpu_caches.h"

#include <hwloc.h>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

std::vector<CacheLevel> CachesAbove(hwloc_obj_t thread) {
  std::vector<CacheLevel> caches;
  for (hwloc_obj_t object = thread; object != nullptr; object = object->parent) {
    if (!hwloc_obj_type_is_dcache(object->type) || object->attr->cache.size == 0) continue;
    const int threads = hwloc_bitmap_weight(object->cpuset);
    caches.push_back({.level = object->attr->cache.depth,
                      .bytes = object->attr->cache.size,
                      .line_bytes = object->attr->cache.linesize,
                      .shared_threads = threads > 0 ? static_cast<uint32_t>(threads) : 0});
  }
  return caches;
}

}  // namespace

std::vector<CacheLevel> CpuCaches(uint32_t number) {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return {};
  std::vector<CacheLevel> caches;
  if (hwloc_topology_load(topology) == 0) {
    caches = CachesAbove(hwloc_get_pu_obj_by_os_index(topology, number));
  }
  hwloc_topology_destroy(topology);
  return caches;
}

absl::StatusOr<std::vector<CacheLevel>> SyntheticCaches(const std::string& description) {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return absl::InternalError("hwloc does not work");
  absl::StatusOr<std::vector<CacheLevel>> caches = absl::InvalidArgumentError(
      absl::StrCat("'", description, "' is not a synthetic topology of hwloc"));
  if (hwloc_topology_set_synthetic(topology, description.c_str()) == 0 &&
      hwloc_topology_load(topology) == 0) {
    caches = CachesAbove(hwloc_get_obj_by_type(topology, HWLOC_OBJ_PU, 0));
  }
  hwloc_topology_destroy(topology);
  return caches;
}

}  // namespace weir
