// Typed access to the members of JSON from outside, without exceptions.
#ifndef WEIR_ENGINE_JSON_MEMBERS_H_
#define WEIR_ENGINE_JSON_MEMBERS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace weir {

// False, and `*value` as it was, when the member is missing or of another type. `object` is an
// object.
inline bool GetMember(const nlohmann::json& object, const char* name, std::string* value) {
  const auto member = object.find(name);
  if (member == object.end() || !member->is_string()) return false;
  *value = member->get<std::string>();
  return true;
}
inline bool GetMember(const nlohmann::json& object, const char* name, uint64_t* value) {
  const auto member = object.find(name);
  if (member == object.end() || !member->is_number_unsigned()) return false;
  *value = member->get<uint64_t>();
  return true;
}
inline bool GetMember(const nlohmann::json& object, const char* name, double* value) {
  const auto member = object.find(name);
  if (member == object.end() || !member->is_number()) return false;
  *value = member->get<double>();
  return true;
}

}  // namespace weir

#endif  // WEIR_ENGINE_JSON_MEMBERS_H_
