// Picture: all that can be seen of a kernel at one moment, taken through its views, and what
// changed between two of them. The walk-through, the JSON document and the page are made of these.
//
// A picture is turned into facts: subjects in groups, each with named fields. Two pictures are
// compared fact by fact. Cost: O(frames + present entries + slots).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "observe/counters.h"
#include "system/kernel.h"
#include "workload/hardware.h"

namespace spillway {

struct PictureEntry {
  Vpn vpn;
  PteView view;
};

struct PictureTask {
  std::string name;  // in the scenario
  TaskView view;
  std::vector<AreaView> areas;
  std::vector<PictureEntry> entries;  // those that are not empty
  // What the scenario calls its places, by address.
  std::vector<std::pair<VirtAddr, std::string>> names;
};

struct PictureSwap {
  std::string name;  // swap0
  SwapView view;
  std::vector<SlotView> slots;  // from offset 1 on: slot 0 is the header
};

struct Picture {
  u64 time_ns = 0;
  std::vector<PictureTask> tasks;
  std::vector<FrameView> frames;
  std::vector<std::vector<Pfn>> queues;  // by PageQueue
  std::vector<PictureSwap> swaps;
  std::vector<FileView> files;
  std::vector<ShmView> segments;
  std::vector<std::pair<std::string, DiskView>> disks;
  std::vector<SlabView> slabs;  // caches of the scenario, of buffer heads, names and inodes
  VfsStats names{};             // all 0 unless the scenario has names
  MemInfo memory{};
  Counters counters{};
  std::vector<std::pair<std::string, DeviceCounts>> devices;
};

// A process of the scenario, and what it calls its places.
struct NamedProcess {
  std::string name;
  Pid pid;
  std::vector<std::pair<VirtAddr, std::string>> places;
};

// What the picture is taken of.
struct Subject {
  Kernel& kernel;
  Hardware& hardware;
  const Counters& counters;
  u64 frames;
  std::vector<NamedProcess> processes;
  std::vector<std::string> devices;
  std::vector<std::string> caches;  // object caches that the scenario made
  bool names = false;               // it makes files by path
};
Picture take_picture(const Subject& subject);

// Whether a picture shows the file: thousands may be empty names, which VfsStats counts.
inline bool is_shown(const FileView& v) { return v.size_bytes != 0 || v.opens != 0; }

// The groups, in the order in which they are told.
enum class FactGroup : u8 {
  processes,
  areas,
  entries,
  frames,
  queues,
  slots,
  swaps,
  files,
  segments,
  disks,
  slabs,
  names,
  memory,
  devices,
  counters,
};
inline constexpr u32 kFactGroupCount = 15;
const char* name_of(FactGroup group);

struct Field {
  std::string name;
  std::string before;  // empty: the subject is new, or the field is
  std::string after;   // empty: it is gone
  bool operator==(const Field&) const = default;
};

// A subject that is new, gone, or changed in some fields. New ones show all their fields.
struct Change {
  enum class Kind : u8 { fresh, gone, changed };
  FactGroup group;
  Kind kind;
  std::string subject;
  std::vector<Field> fields;
};
std::vector<Change> changes_between(const Picture& before, const Picture& after);

// Fields of MemInfo with their names, for all who list them.
struct MemField {
  const char* name;
  u64 MemInfo::*member;
};
std::vector<MemField> memory_fields();

// What an area is called: by the kernel, else by the scenario, else its address.
std::string area_name(const PictureTask& task, const AreaView& area);
// The name of the area and the offset in it: "[stack]-2p", "buf+3p", or the bare address.
std::string place_name(const PictureTask& task, Vpn vpn);
// Slots of an area count from 1 to its size.
SlotId slot_at(const SwapView& swap, u64 offset);
std::string slot_text(SlotId slot);  // "swap0:3"
std::string hex_text(u64 value);
std::string prot_text(Prot prot);
const char* name_of(Pte::Kind kind);

}  // namespace spillway
