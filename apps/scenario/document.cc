#include "scenario/document.h"

#include "scenario/library.h"
#include "scenario/text_view.h"

namespace spillway {
namespace {

using nlohmann::json;

const char* name_of(RunEnd end) {
  switch (end) {
    case RunEnd::good: return "good";
    case RunEnd::expectation: return "expectation";
    case RunEnd::scenario: return "scenario";
    case RunEnd::invariant: return "invariant";
  }
  return "?";
}

const char* name_of(Change::Kind kind) {
  switch (kind) {
    case Change::Kind::fresh: return "new";
    case Change::Kind::gone: return "gone";
    case Change::Kind::changed: return "changed";
  }
  return "?";
}

// The list with depths becomes a tree: what stands deeper belongs to the call above.
json walk_json(const std::vector<WalkItem>& walk, std::size_t* at, u32 depth) {
  json items = json::array();
  while (*at < walk.size() && walk[*at].depth >= depth) {
    const WalkItem& item = walk[(*at)++];
    switch (item.kind) {
      case WalkItem::Kind::call: {
        json call = {{"call", item.function}, {"text", item.text}};
        json inner = walk_json(walk, at, item.depth + 1);
        if (!inner.empty()) call["items"] = std::move(inner);
        items.push_back(std::move(call));
        break;
      }
      case WalkItem::Kind::step: items.push_back({{"step", item.text}}); break;
      case WalkItem::Kind::remark: items.push_back({{"remark", item.text}}); break;
      case WalkItem::Kind::more: items.push_back({{"more", item.count}}); break;
    }
  }
  return items;
}

json operation_json(const OperationRecord& o) {
  json out = {{"line", o.at.line}, {"column", o.at.column}, {"text", o.text}};
  if (!o.result.empty()) out["result"] = o.result;
  if (o.expectation) out["expectation"] = true;
  if (o.failed) out["failed"] = true;
  if (o.times > 1) out["times"] = o.times;
  std::size_t at = 0;
  if (!o.walk.empty()) out["walk"] = walk_json(o.walk, &at, 0);
  return out;
}

json change_json(const Change& change) {
  json fields = json::array();
  for (const Field& field : change.fields) {
    json f = {{"name", field.name}};
    if (!field.before.empty()) f["before"] = field.before;
    if (!field.after.empty()) f["after"] = field.after;
    fields.push_back(std::move(f));
  }
  return {{"group", name_of(change.group)},
          {"kind", name_of(change.kind)},
          {"subject", change.subject},
          {"fields", std::move(fields)}};
}

std::string entry_bits(const PteView& v) {
  std::string bits;
  if (v.kind != Pte::Kind::present) return bits;
  if (v.writable) bits += 'W';
  if (v.executable) bits += 'X';
  if (v.accessed) bits += 'A';
  if (v.dirty) bits += 'D';
  return bits;
}

json task_json(const PictureTask& task) {
  const TaskView& v = task.view;
  json out = {{"name", task.name},        {"pid", v.pid},
              {"leader", v.leader},       {"alive", v.state == TaskState::running},
              {"exit_code", v.exit_code}, {"sp", v.sp.v},
              {"brk", v.brk.v},           {"rss", v.rss},
              {"total_vm", v.total_vm},   {"swap", v.swap_entries},
              {"tables", v.page_tables}};
  json areas = json::array();
  for (const AreaView& a : task.areas) {
    areas.push_back({{"name", area_name(task, a)},
                     {"start", a.range.start.v},
                     {"end", a.range.end.v},
                     {"prot", prot_text(a.prot)},
                     {"shared", a.shared},
                     {"grows", a.growsdown},
                     {"locked", a.locked},
                     {"file", a.mapping != 0},
                     {"rss", a.rss},
                     {"swap", a.swap}});
  }
  out["areas"] = std::move(areas);
  // [page number, kind, bits, frame or slot]
  json entries = json::array();
  for (const PictureEntry& e : task.entries) {
    json target = nullptr;
    if (e.view.kind == Pte::Kind::swapped) target = slot_text(e.view.slot);
    if (e.view.kind == Pte::Kind::present || e.view.kind == Pte::Kind::unmapped) {
      target = e.view.pfn.v;
    }
    entries.push_back({e.vpn.v, name_of(e.view.kind), entry_bits(e.view), std::move(target)});
  }
  out["entries"] = std::move(entries);
  return out;
}

json frame_json(const FrameView& v) {
  std::string flags;
  if (v.dirty) flags += "dirty ";
  if (v.referenced) flags += "referenced ";
  if (v.writeback) flags += "writeback ";
  if (v.error) flags += "error ";
  json out = {{"state", name_of(v.state)}};
  if (v.state == PageState::free || v.state == PageState::pcp) return out;
  out["owner"] = name_of(v.owner);
  if (v.owner != PageOwner::user && v.owner != PageOwner::file && v.owner != PageOwner::shmem) {
    return out;
  }
  out["count"] = v.count;
  out["mapcount"] = v.mapcount;
  out["age"] = v.age;
  out["queue"] = name_of(v.queue);
  if (!flags.empty()) out["flags"] = flags.substr(0, flags.size() - 1);
  if (v.slot.valid()) out["slot"] = slot_text(v.slot);
  return out;
}

json swap_json(const PictureSwap& swap) {
  // References of each slot, -1 while it is free; and which are in the swap cache.
  json counts = json::array();
  json cached = json::object();
  for (std::size_t i = 0; i < swap.slots.size(); ++i) {
    const SlotView& v = swap.slots[i];
    counts.push_back(v.used ? static_cast<i64>(v.count) : i64{-1});
    if (v.used && v.cached.valid()) cached[std::to_string(i + 1)] = v.cached.v;
  }
  return {{"name", swap.name},           {"priority", swap.view.priority},
          {"size", swap.view.size},      {"used", swap.view.used},
          {"counts", std::move(counts)}, {"cached", std::move(cached)}};
}

json names_json(const VfsStats& v) {
  return {{"dentries",
           {{"total", v.dentries},
            {"unused", v.dentries_unused},
            {"negative", v.dentries_negative},
            {"hits", v.dentry_hits},
            {"misses", v.dentry_misses},
            {"pruned", v.dentries_pruned}}},
          {"inodes",
           {{"total", v.inodes},
            {"unused", v.inodes_unused},
            {"dirty", v.inodes_dirty},
            {"misses", v.inode_misses},
            {"pruned", v.inodes_pruned},
            {"written", v.inodes_written}}}};
}

// What the caches of contents, blocks and objects hold.
void add_caches(const Picture& p, json* out) {
  if (p.names.dentries != 0) (*out)["names"] = names_json(p.names);
  for (const char* list : {"files", "disks", "slabs"}) (*out)[list] = json::array();
  for (const FileView& v : p.files) {
    if (!is_shown(v)) continue;
    (*out)["files"].push_back({{"name", v.name},
                               {"number", v.number},
                               {"bytes", v.size_bytes},
                               {"cached", v.cached},
                               {"dirty", v.dirty},
                               {"writeback", v.writeback},
                               {"opens", v.opens}});
  }
  for (const auto& [name, v] : p.disks) {
    (*out)["disks"].push_back({{"name", name},
                               {"buffers", v.buffers},
                               {"dirty", v.dirty},
                               {"pages", v.pages},
                               {"writeback", v.writeback},
                               {"hits", v.hits},
                               {"misses", v.misses},
                               {"released", v.released}});
  }
  for (const SlabView& v : p.slabs) {
    (*out)["slabs"].push_back({{"name", v.name},
                               {"active", v.objects_active},
                               {"total", v.objects_total},
                               {"slabs", v.slabs_total},
                               {"active_slabs", v.slabs_active},
                               {"frames", v.frames}});
  }
}

}  // namespace

json picture_json(const Picture& p) {
  json out = {{"time_ns", p.time_ns}};
  for (const PictureTask& task : p.tasks) out["tasks"].push_back(task_json(task));
  for (const FrameView& frame : p.frames) out["frames"].push_back(frame_json(frame));
  out["queues"] = json::object();
  for (u32 i = 1; i < p.queues.size(); ++i) {
    json& queue = out["queues"][name_of(static_cast<PageQueue>(i))];
    queue = json::array();
    for (const Pfn pfn : p.queues[i]) queue.push_back(pfn.v);
  }
  out["swaps"] = json::array();
  for (const PictureSwap& swap : p.swaps) out["swaps"].push_back(swap_json(swap));
  out["memory"] = json::object();
  for (const MemField& field : memory_fields()) {
    out["memory"][field.name] = p.memory.*field.member;
  }
  add_caches(p, &out);
  return out;
}

void Document::begin(const Scenario& scenario, const Stage& stage, const Picture& picture) {
  json_ = {{"schema", "spillway.scenario/1"},
           {"title", scenario.title},
           {"machine",
            {{"text", machine_text(stage)},
             {"frames", stage.frames.v},
             {"cpus", stage.cpus},
             {"seed", stage.seed},
             {"policy", name_of(stage.kernel.mm.policy)}}},
           {"steps", json::array()}};
  if (pictures_ == Pictures::yes) json_["picture"] = picture_json(picture);
}

bool Document::step(const StepRecord& record, const Picture&, const Picture& after) {
  json step = {{"number", record.number}, {"title", record.title}};
  if (!record.narrative.empty()) step["narrative"] = record.narrative;
  step["operations"] = json::array();
  for (const OperationRecord& o : record.operations) {
    step["operations"].push_back(operation_json(o));
  }
  step["changes"] = json::array();
  for (const Change& change : record.changes) step["changes"].push_back(change_json(change));
  if (pictures_ == Pictures::yes) step["picture"] = picture_json(after);
  json_["steps"].push_back(std::move(step));
  return true;
}

json Document::finish(const RunResult& result, const std::string& file, int exit_code) {
  if (json_.is_null()) json_ = {{"schema", "spillway.scenario/1"}, {"steps", json::array()}};
  json_["file"] = file;
  json end = {{"end", name_of(result.end)},
              {"exit_code", exit_code},
              {"operations", result.operations},
              {"expectations", result.expectations}};
  if (result.end != RunEnd::good) {
    end["line"] = result.at.line;
    end["column"] = result.at.column;
    end["what"] = result.what;
    if (!result.expected.empty()) {
      end["expected"] = result.expected;
      end["actual"] = result.actual;
    }
  }
  json_["result"] = std::move(end);
  return std::move(json_);
}

std::string html_page(const json& document) {
  std::string page(web_file("page.html"));
  const auto put = [&](const std::string& mark, const std::string& text) {
    const std::size_t at = page.find(mark);
    if (at != std::string::npos) page.replace(at, mark.size(), text);
  };
  // Inside a script element only "</" could end it early.
  std::string data = document.dump(-1, ' ', false, json::error_handler_t::replace);
  for (std::size_t at = 0; (at = data.find("</", at)) != std::string::npos;) {
    data.replace(at, 2, "<\\/");
  }
  put("/*style*/", std::string(web_file("page.css")));
  put("/*pictures*/", std::string(web_file("pictures.js")));
  put("/*script*/", std::string(web_file("page.js")));
  put("/*selftest*/", std::string(web_file("selftest.js")));
  put("/*data*/", data);
  return page;
}

}  // namespace spillway
