// Setting the stage: the machine, its swap areas, files and programs, before the first step.
#include <algorithm>

#include "vfs/file_store.h"
#include "workload/elf_writer.h"
#include "workload/runner.h"

namespace spillway {
namespace {

// The bytes of a file of this pattern: 0 is all zeros.
std::vector<u8> pattern_bytes(u64 pattern, u64 count) {
  std::vector<u8> out(count);
  for (u64 i = 0; i < count && pattern != 0; ++i) {
    out[i] = static_cast<u8>(mix64(pattern * 0x10001 + i / 8) >> (8 * (i % 8)));
  }
  return out;
}

u64 number_or(const Statement& s, const char* key, u64 otherwise) {
  const Operand& o = operand(s, key);
  return o.given() ? o.number.value : otherwise;
}

bool word_is(const Statement& s, const char* key, const char* word) {
  return operand(s, key).text == word;
}

// Operations on names, wherever they stand, and the pages that their files can need: a name that is
// made again was removed before.
struct NameUse {
  bool any = false;
  u64 pages = 0;
};
void look_for_names(const std::vector<Statement>& statements, NameUse* use) {
  for (const Statement& s : statements) {
    look_for_names(s.body, use);
    switch (s.verb) {
      case Verb::make:
        if (s.operands[1].text == "file") {
          use->pages +=
              number_or(s, "count", 1) * std::max<u64>(operand(s, "size").number.pages(), 1);
        }
        [[fallthrough]];
      case Verb::lookup:
      case Verb::chmod:
      case Verb::rename:
      case Verb::remove:
      case Verb::prune: use->any = true; break;
      default: break;
    }
  }
}

void apply_machine(const Statement& s, Stage* stage, bool* daemons_auto) {
  KernelConfig& k = stage->kernel;
  stage->frames = PageCount(number_or(s, "frames", stage->frames.v));
  stage->cpus = static_cast<u32>(number_or(s, "cpus", 1));
  stage->seed = number_or(s, "seed", 1);
  stage->file_pages = number_or(s, "file_pages", 0);
  if (operand(s, "latency").given()) stage->latency_ns = operand(s, "latency").number.total();
  if (word_is(s, "policy", "two_list")) k.mm.policy = Policy::two_list;
  if (word_is(s, "policy", "three_queue")) k.mm.policy = Policy::three_queue;
  k.mm.page_cluster = static_cast<u32>(number_or(s, "cluster", k.mm.page_cluster));
  k.mm.watermark_min = PageCount(number_or(s, "min", 0));
  k.mm.watermark_low = PageCount(number_or(s, "low", 0));
  k.mm.watermark_high = PageCount(number_or(s, "high", 0));
  k.mm.pool_max = PageCount(number_or(s, "pool", 0));
  if (word_is(s, "readahead", "streams")) k.mm.swap_readahead = SwapReadahead::streams;
  k.strict_stack = !word_is(s, "strict_stack", "off");
  k.stack_guard_gap = PageCount(number_or(s, "guard_gap", 0));
  if (word_is(s, "layout", "modern")) k.layout = Layout::modern;
  if (word_is(s, "overcommit", "always")) k.overcommit = Overcommit::always;
  if (word_is(s, "overcommit", "never")) k.overcommit = Overcommit::never;
  k.overcommit_ratio = static_cast<u32>(number_or(s, "ratio", k.overcommit_ratio));
  *daemons_auto = word_is(s, "daemons", "auto");
}

}  // namespace

bool Runner::set_stage() {
  stage_.kernel.mm.policy = Policy::linux24;
  stage_.kernel.mm.swap_readahead = SwapReadahead::cluster;
  // As in Linux a fault gives one page; windows of fresh pages are an idea for real machines.
  stage_.kernel.mm.fresh_around_max = 0;
  u64 file_pages = 0;
  Statement machine;
  machine.verb = Verb::machine;
  machine.at = {1, 1};
  for (const Statement& s : scenario_.statements) {
    if (s.verb == Verb::machine) {
      machine = s;
      apply_machine(s, &stage_, &daemons_auto_);
    } else if (s.verb == Verb::swap) {
      devices_.push_back("swap" + std::to_string(stage_.swap_pages.size()));
      stage_.swap_pages.push_back(s.operands[0].number.value + 1);
    } else if (s.verb == Verb::file) {
      file_pages += std::max<u64>(
          {operand(s, "SIZE").number.pages(), operand(s, "capacity").number.pages(), 1});
    } else if (s.verb == Verb::disk) {
      stage_.disk_pages.push_back(s.operands[0].number.value);
    } else if (s.verb == Verb::program) {
      file_pages += 3 + operand(s, "code").number.pages() + operand(s, "data").number.pages();
    }
  }
  if (overrides_.seed) stage_.seed = *overrides_.seed;
  if (overrides_.policy) stage_.kernel.mm.policy = *overrides_.policy;
  NameUse names;
  look_for_names(scenario_.statements, &names);
  names_ = names.any;
  if (names.any) {
    // Inodes and directories lie on the device too, behind buffers, as on a machine's disk.
    stage_.kernel.mm.file_metadata_on_device = true;
    file_pages += names.pages + FileStore::kMetadataBlocks;
  }
  // Some room for files that the scenario lets grow.
  if (file_pages != 0) stage_.file_pages = std::max(stage_.file_pages, file_pages + 64);
  if (stage_.file_pages != 0) {
    stage_.kernel.file_device = static_cast<u32>(stage_.swap_pages.size());
    devices_.emplace_back("files");
  }
  for (u64 i = 0; i < stage_.disk_pages.size(); ++i) {
    devices_.push_back("disk" + std::to_string(i));
  }
  const auto booted = hardware_.boot(stage_, counters_, events_, &walk_);
  if (!booted.ok()) {
    return fail(RunEnd::scenario, machine,
                std::string("the machine does not boot: ") + name_of(booted.error()) +
                    "; it may need more frames");
  }
  kernel_ = booted.value();
  return make_files() && make_swaps() && make_disks();
}

bool Runner::make_swaps() {
  u32 number = 0;
  for (const Statement& s : scenario_.statements) {
    if (s.verb != Verb::swap) continue;
    const u32 device = number++;
    const Outcome made = call([&](u32) -> Result<u64> {
      SPW_TRY(kernel_->mkswap(device));
      return u64{0};
    });
    if (made.gave_up || !made.value.ok()) {
      return fail(RunEnd::scenario, s,
                  std::string("mkswap failed: ") +
                      (made.gave_up ? "it waits" : name_of(made.value.error())));
    }
    if (operand(s, "off").given()) continue;
    const Number& priority = operand(s, "priority").number;
    const bool chosen = operand(s, "priority").given() && !priority.negative;
    const Outcome outcome = call([&](u32) {
      return kernel_->swapon(device, chosen ? static_cast<i32>(priority.value) : -1);
    });
    if (outcome.gave_up || !outcome.value.ok()) {
      return fail(RunEnd::scenario, s,
                  std::string("swapon failed: ") +
                      (outcome.gave_up ? "it waits" : name_of(outcome.value.error())));
    }
  }
  return true;
}

bool Runner::make_files() {
  const bool any = std::any_of(
      scenario_.statements.begin(), scenario_.statements.end(),
      [](const Statement& s) { return s.verb == Verb::file || s.verb == Verb::program; });
  if (!any) return true;
  const auto spawned = kernel_->spawn("stage");
  if (!spawned.ok()) {
    return fail(RunEnd::scenario, scenario_.statements[0], "no process to write the files");
  }
  stage_pid_ = spawned.value();
  for (const Statement& s : scenario_.statements) {
    if (s.verb == Verb::file) {
      const u64 size = operand(s, "SIZE").number.total();
      const u64 capacity = std::max(size, operand(s, "capacity").number.total());
      if (!make_file(s, pattern_bytes(operand(s, "pattern").number.value, size), capacity)) {
        return false;
      }
    } else if (s.verb == Verb::program) {
      if (!make_file(s, program_image(s), 0)) return false;
      file_at(s.operands[0].text)->program = static_cast<u32>(programs_.size() - 1);
    }
  }
  kernel_->exit(stage_pid_, 0);
  (void)kernel_->reap(stage_pid_);
  // The first access to a file is to read the disk.
  (void)kernel_->drop_caches();
  return true;
}

std::vector<u8> Runner::program_image(const Statement& s) {
  ElfParts parts;
  const auto size = [&](const char* key, u64 otherwise) {
    return operand(s, key).given() ? operand(s, key).number.total() : otherwise;
  };
  parts.code_bytes = std::max(size("code", kPageSize), kPageSize);
  parts.data_bytes = std::max<u64>(size("data", kPageSize), 1);
  parts.bss_bytes = size("bss", 0);
  if (stage_.kernel.layout == Layout::modern) parts.base = 0x400000;
  const WrittenElf image = make_elf(parts);
  Program program;
  program.code = image.code;
  program.data = image.data;
  program.bss = image.bss;
  program.code_pages = image.data_offset / kPageSize;
  program.data_bytes = parts.data_bytes;
  program.bss_end = image.end;
  program.data_offset = image.data_offset;
  programs_.push_back(program);
  return image.bytes;
}

bool Runner::make_file(const Statement& s, const std::vector<u8>& contents, u64 capacity) {
  const std::string& name = s.operands[0].text;
  const auto problem = [&](const char* what, const std::string& why) {
    return fail(RunEnd::scenario, s, "file " + quoted(name) + ": " + what + " failed: " + why);
  };
  const u64 room = std::max<u64>({capacity, contents.size(), 1});
  const Outcome created = call([&](u32) -> Result<u64> {
    SPW_TRY(kernel_->create_file(name.c_str(), contents.size(), room));
    return u64{0};
  });
  if (created.gave_up) return problem("create", "it waits");
  if (!created.value.ok()) return problem("create", name_of(created.value.error()));
  const Outcome number = call([&](u32) { return kernel_->name_lookup(name.c_str()); });
  if (number.gave_up || !number.value.ok()) return problem("look-up", "it is not there");
  add_file(name,
           File{model_.add_object(contents), contents.size(), number.value.value(), std::nullopt});
  const bool zeros = std::all_of(contents.begin(), contents.end(), [](u8 b) { return b == 0; });
  if (zeros) return true;
  const auto opened = kernel_->open(stage_pid_, name.c_str(), kOpenReadWrite);
  if (!opened.ok()) return problem("open", name_of(opened.error()));
  const i32 fd = static_cast<i32>(opened.value());
  // In pieces, each written back at once: the machine may be smaller than the file.
  constexpr u64 kPiece = 8 * kPageSize;
  for (u64 at = 0; at < contents.size(); at += kPiece) {
    const u64 count = std::min(kPiece, contents.size() - at);
    u64 done = 0;
    const Outcome written = call([&](u32) {
      return kernel_->pwrite(stage_pid_, fd, contents.data() + at, count, at, &done);
    });
    if (written.gave_up || !written.value.ok()) return problem("write", "no room");
    const Outcome synced = call([&](u32) { return kernel_->fsync(stage_pid_, fd); });
    if (synced.gave_up || !synced.value.ok()) return problem("fsync", "no room");
  }
  (void)kernel_->close(stage_pid_, fd);
  return true;
}

}  // namespace spillway
