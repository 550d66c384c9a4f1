// Operations on names: files and directories by path, in the file system that `file` and `program`
// use too, so that a file that was made here can be mapped, read and written.
#include <algorithm>

#include "workload/runner.h"

namespace spillway {
namespace {

// The path from the root, without "." and "..": the language has no symbolic links, so words are
// enough to know a file by.
std::string canonical(const std::string& path) {
  std::string out;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string word = path.substr(at, end - at);
    at = end + 1;
    if (word.empty() || word == ".") continue;
    if (word == "..") {
      out.resize(out.rfind('/') == std::string::npos ? 0 : out.rfind('/'));
    } else {
      out += (out.empty() ? "" : "/") + word;
    }
  }
  return out;
}

// The path with its % replaced by a number.
std::string counted(const std::string& pattern, u64 number) {
  std::string path = pattern;
  const std::size_t at = pattern.find('%');
  if (at != std::string::npos) path.replace(at, 1, std::to_string(number));
  return path;
}

}  // namespace

// What the scenario knows of a file; null if it made none of this path.
Runner::File* Runner::file_at(const std::string& path) {
  const auto found = files_.find(canonical(path));
  return found == files_.end() ? nullptr : &found->second;
}

void Runner::add_file(const std::string& path, const File& file) {
  // An inode that came anew is not the one of a file that is gone.
  std::erase_if(files_, [&](const auto& known) { return known.second.number == file.number; });
  files_[canonical(path)] = file;
}

Result<u64> Runner::name_call(const Statement& s, const std::string& path, const std::string& to) {
  switch (s.verb) {
    case Verb::make:
      return kernel_->name_make(path.c_str(), s.operands[1].text == "directory",
                                operand(s, "size").number.total());
    case Verb::lookup: return kernel_->name_lookup(path.c_str());
    case Verb::chmod:
      return kernel_->name_chmod(path.c_str(), static_cast<u32>(s.operands[1].number.value));
    case Verb::rename: return kernel_->name_rename(path.c_str(), to.c_str());
    default: return kernel_->name_remove(path.c_str(), operand(s, "directory").given());
  }
}

// The call was done: what is known of files follows.
void Runner::follow_names(const Statement& s, const std::string& path, const std::string& to,
                          u64 result) {
  if (s.verb == Verb::make && s.operands[1].text == "file") {
    const u64 size = operand(s, "size").number.total();
    add_file(path, File{model_.add_object(size), size, result, std::nullopt});
  }
  if (s.verb == Verb::remove) files_.erase(canonical(path));
  if (s.verb != Verb::rename) return;
  // Of a directory, all that is below it goes along.
  const std::string from = canonical(path);
  std::map<std::string, File> moved;
  for (auto it = files_.begin(); it != files_.end();) {
    const bool below = it->first == from || it->first.starts_with(from + "/");
    if (below) moved[canonical(to) + it->first.substr(from.size())] = it->second;
    it = below ? files_.erase(it) : std::next(it);
  }
  for (const auto& [name, file] : moved) files_[name] = file;
}

bool Runner::do_names(const Statement& s) {
  if (s.verb == Verb::prune) {
    const bool inodes = s.operands[0].text == "inodes";
    const Result<u64> gone = kernel_->name_prune(inodes, s.operands[1].number.value);
    record(s, std::to_string(gone.ok() ? gone.value() : 0) + " gone");
    return true;
  }
  const u64 first = operand(s, "first").given() ? operand(s, "first").number.value : 0;
  const u64 count = operand(s, "count").given() ? operand(s, "count").number.value : 1;
  Outcome outcome;
  for (u64 i = first; i < first + count; ++i) {
    const std::string path = counted(s.operands[0].text, i);
    const std::string to = s.verb == Verb::rename ? counted(s.operands[1].text, i) : "";
    outcome = call([&](u32) { return name_call(s, path, to); });
    if (outcome.gave_up) break;
    if (outcome.value.ok()) {
      follow_names(s, path, to, outcome.value.value());
    } else if (!operand(s, "fails").given()) {
      break;
    }
  }
  if (outcome.value.ok()) outcome.value = u64{0};
  std::optional<u64> value;
  return judge(s, outcome, &value);
}

}  // namespace spillway
