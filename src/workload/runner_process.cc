// Operations that make, change and end processes.
#include "workload/runner.h"

namespace spillway {

void Runner::add_process(const std::string& name, Pid pid, std::shared_ptr<Space> space) {
  Process p;
  p.name = name;
  p.pid = pid;
  p.space = std::move(space);
  processes_[name] = std::move(p);
  process_order_.push_back(name);
}

bool Runner::do_process(const Statement& s) {
  if (s.verb == Verb::process) {
    const Outcome outcome = call([&](u32) -> Result<u64> {
      SPW_TRY_ASSIGN(pid, kernel_->spawn(s.operands[0].text.c_str()));
      return u64{pid.v};
    });
    std::optional<u64> value;
    if (!judge(s, outcome, &value) || !value) return result_.end == RunEnd::good;
    auto space = std::make_shared<Space>();
    space->key = model_.add_space();
    add_process(s.operands[0].text, Pid{static_cast<u32>(*value)}, std::move(space));
    return true;
  }
  if (s.verb == Verb::reap) {
    const Pid pid = processes_.at(s.operands[0].text).pid;
    std::optional<u64> value;
    return judge(s, call([&](u32) { return kernel_->reap(pid); }), &value);
  }
  Process* p = process(s, s.operands[0]);
  if (p == nullptr) return false;
  switch (s.verb) {
    case Verb::fork:
    case Verb::thread: return do_fork(s);
    case Verb::exec: return do_exec(s);
    case Verb::exit: {
      const Operand& code = operand(s, "code");
      kernel_->exit(p->pid, static_cast<i32>(code.number.value));
      break;
    }
    case Verb::kill: {
      const Operand& with = operand(s, "with");
      const Signal signo = with.text == "TERM"   ? Signal::term
                           : with.text == "SEGV" ? Signal::segv
                                                 : Signal::kill;
      kernel_->kill(p->pid, signo);
      break;
    }
    case Verb::cpu: p->cpu = static_cast<u32>(s.operands[1].number.value); break;
    case Verb::sp: {
      const auto sp = place(s, *p, s.operands[1].place);
      if (!sp) return false;
      kernel_->set_stack_pointer(p->pid, *sp);
      record(s, hex_text(sp->v));
      return true;
    }
    case Verb::limit: {
      constexpr const char* kNames[] = {"stack", "as", "data", "memlock"};
      u32 which = 0;
      while (s.operands[1].text != kNames[which]) ++which;
      const Operand& value = s.operands[2];
      kernel_->set_limit(p->pid, static_cast<Limit>(which),
                         value.kind == Operand::Kind::word ? kUnlimited : value.number.total());
      break;
    }
    case Verb::nice:
    case Verb::oom_score_adj: {
      const Number& number = s.operands[1].number;
      const i32 value = static_cast<i32>(number.value) * (number.negative ? -1 : 1);
      if (s.verb == Verb::nice) {
        kernel_->set_nice(p->pid, value);
      } else {
        kernel_->set_oom_score_adj(p->pid, value);
      }
      break;
    }
    case Verb::catches: kernel_->set_catches(p->pid, s.operands[1].text == "on"); break;
    default: break;
  }
  record(s, "");
  return true;
}

bool Runner::do_fork(const Statement& s) {
  const Process parent = processes_.at(s.operands[0].text);
  const bool thread = s.verb == Verb::thread;
  const Outcome outcome = call([&](u32) -> Result<u64> {
    SPW_TRY_ASSIGN(pid, thread ? kernel_->clone_thread(parent.pid) : kernel_->fork(parent.pid));
    return u64{pid.v};
  });
  std::optional<u64> value;
  if (!judge(s, outcome, &value) || !value) return result_.end == RunEnd::good;
  std::shared_ptr<Space> space = parent.space;
  if (!thread) {
    space = std::make_shared<Space>(*parent.space);
    space->key = model_.fork(parent.space->key);
  }
  add_process(s.operands[1].text, Pid{static_cast<u32>(*value)}, std::move(space));
  processes_[s.operands[1].text].cpu = parent.cpu;
  return true;
}

bool Runner::do_exec(const Statement& s) {
  Process& p = processes_.at(s.operands[0].text);
  std::vector<std::string> words = s.operands[1].list;
  if (const Operand& pad = operand(s, "pad"); pad.given()) {
    words.back().resize(std::max<u64>(words.back().size(), pad.number.total()), '.');
  }
  std::vector<const char*> argv;
  for (const std::string& word : words) argv.push_back(word.c_str());
  argv.push_back(nullptr);
  const char* const envp[] = {nullptr};
  const Outcome outcome =
      call([&](u32) { return kernel_->exec(p.pid, words[0].c_str(), argv.data(), envp); });
  std::optional<u64> value;
  if (!judge(s, outcome, &value) || !value) return result_.end == RunEnd::good;
  // The old image is gone, for its threads too.
  p.space = std::make_shared<Space>();
  p.space->key = model_.add_space();
  const File* known = file_at(words[0]);
  if (known == nullptr || !known->program) return true;
  const File& file = *known;
  const Program& program = programs_[*file.program];
  p.space->places["code"] = VirtAddr(program.code);
  p.space->places["data"] = VirtAddr(program.data);
  p.space->places["bss"] = VirtAddr(program.bss);
  const auto map = [&](u64 address, u64 pages, u64 offset) {
    model_.map_object(p.space->key, VirtAddr(address).vpn(), pages, file.object,
                      offset >> kPageShift, MemoryModel::Sharing::private_copy);
  };
  map(program.code, program.code_pages, 0);
  const u64 data_pages = pages_for(program.data_bytes).v;
  if (data_pages != 0) map(program.data, data_pages, program.data_offset);
  const u64 bss_end = (program.bss_end + kPageMask) & ~kPageMask;
  const u64 data_end = program.data + data_pages * kPageSize;
  if (bss_end > data_end) {
    model_.map_zeros(p.space->key, VirtAddr(data_end).vpn(), (bss_end - data_end) >> kPageShift);
  }
  // The tail of the last page of data is bss already, and zeroed in a private copy.
  const u64 tail = program.data + program.data_bytes;
  if ((tail & kPageMask) != 0) {
    const std::vector<u8> zeros(kPageSize - (tail & kPageMask));
    model_.write(p.space->key, VirtAddr(tail), zeros.data(), zeros.size());
  }
  // What lies on the stack is the kernel's business.
  for (const AreaView& area : areas_of(p.pid)) {
    if (area.growsdown) {
      model_.map_unknown(p.space->key, area.range.start, area.range.pages().v);
    }
  }
  return true;
}

}  // namespace spillway
