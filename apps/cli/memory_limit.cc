#include "cli/memory_limit.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <vector>

namespace spillway {
namespace {

// A control-group file system: where it is mounted and which group its root shows.
struct Mount {
  std::string root;
  std::string point;
  bool v2;
};

// mountinfo writes blanks and backslashes in paths as \040 and the like.
std::string unescape(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto octal = [&](std::size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '7';
    };
    if (text[i] == '\\' && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool has_word(const std::string& list, const std::string& word) {
  std::istringstream words(list);
  for (std::string item; std::getline(words, item, ',');) {
    if (item == word) return true;
  }
  return false;
}

std::vector<Mount> cgroup_mounts(const std::string& root) {
  std::vector<Mount> mounts;
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    // id parent major:minor root point options [optional...] - type source super-options
    std::istringstream fields(line);
    std::string id, parent, device, mount_root, point, word, type, source, super;
    fields >> id >> parent >> device >> mount_root >> point;
    while (fields >> word && word != "-") {
    }
    if (!(fields >> type >> source)) continue;
    fields >> super;
    if (type != "cgroup2" && !(type == "cgroup" && has_word(super, "memory"))) continue;
    mounts.push_back({unescape(mount_root), unescape(point), type == "cgroup2"});
  }
  return mounts;
}

// The group of this process in the memory hierarchy of that version; empty if there is none.
std::string own_group(const std::string& root, bool v2) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    if (first == std::string::npos) continue;
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool matches = v2 ? line.compare(0, first, "0") == 0 && controllers.empty()
                            : has_word(controllers, "memory");
    if (matches) return line.substr(second + 1);
  }
  return "";
}

std::optional<u64> read_number(const std::string& path) {
  std::ifstream file(path);
  std::string text;
  if (!(file >> text)) return std::nullopt;
  u64 value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;  // "max"
  return value;
}

void take_smaller(std::optional<MemoryLimit>& best, const std::string& root,
                  const std::string& path, u64 ceiling) {
  const std::optional<u64> value = read_number(root + path);
  // Version 1 writes "no limit" as a number near 2^63; nothing above the RAM of the machine binds.
  if (!value || *value >= ceiling || (best && best->bytes <= *value)) return;
  best = MemoryLimit{*value, path};
}

// `group` seen through `mount`: its folder below the mount point. In a container the name may be
// that of the host and lead nowhere; the mount point itself is then the group of the container.
std::string below_mount(const std::string& group, const Mount& mount) {
  std::string rest = group;
  if (mount.root != "/") {
    const bool inside = rest.compare(0, mount.root.size(), mount.root) == 0 &&
                        (rest.size() == mount.root.size() || rest[mount.root.size()] == '/');
    if (!inside) return "";
    rest.erase(0, mount.root.size());
  }
  if (rest.find("/..") != std::string::npos) return "";
  while (!rest.empty() && rest.back() == '/') rest.pop_back();
  return rest;
}

}  // namespace

std::optional<MemoryLimit> tightest_cgroup_limit(const std::string& root) {
  std::optional<MemoryLimit> best;
  const u64 ram = physical_ram(root);
  const u64 ceiling = ram == 0 ? u64{1} << 62 : ram;
  for (const Mount& mount : cgroup_mounts(root)) {
    const std::string group = own_group(root, mount.v2);
    if (group.empty()) continue;
    std::string rest = below_mount(group, mount);
    for (bool leaf = true;; leaf = false) {
      const std::string folder = mount.point + rest;
      if (mount.v2) {
        take_smaller(best, root, folder + "/memory.max", ceiling);
        take_smaller(best, root, folder + "/memory.high", ceiling);
      } else if (leaf || read_number(root + folder + "/memory.use_hierarchy").value_or(1) != 0) {
        take_smaller(best, root, folder + "/memory.limit_in_bytes", ceiling);
      }
      if (rest.empty()) break;
      rest.erase(rest.rfind('/'));
    }
  }
  return best;
}

u64 physical_ram(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  std::string name;
  u64 kib = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    if (fields >> name >> kib && name == "MemTotal:") return kib * 1024;
  }
  return 0;
}

MemoryLimit usable_ram(const std::string& root) {
  const std::optional<MemoryLimit> limit = tightest_cgroup_limit(root);
  if (limit) return *limit;
  return MemoryLimit{physical_ram(root), "the RAM of this machine"};
}

}  // namespace spillway
