// What a machine can do. The core asks for these bits and never for the machine's name;
// machine_sim can switch each off to imitate a poorer machine.
#pragma once

namespace spillway {

struct Features {
  // The MMU sets Pte::accessed on every access through a present entry.
  bool accessed_bit = false;
  // The MMU sets Pte::dirty on every write through a present entry.
  bool dirty_bit = false;
  // Frames::bytes stays valid while the frame is mapped into a program. On the host it does
  // not: mapping moves the page itself to the program's address.
  bool frame_bytes_while_mapped = false;
  // The MMU can map one shared, read-only page of zeros (Pte::Kind::zero). The host must not:
  // the kernel would break such a mapping with a page of its own, outside the budget.
  bool zero_page = false;
  // A frame may be mapped at several places at once, in one or several spaces, and a present
  // entry may grant less than its area's protection (copy-on-write). Implies
  // frame_bytes_while_mapped. Not on the host: there the page itself is at one place only.
  bool shared_frames = false;
};

}  // namespace spillway
