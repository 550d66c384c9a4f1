#include "fault/streams.h"

namespace spillway {
namespace {

// A stream may skip so many steps (pages that were resident) and still be the same one.
constexpr i64 kSlack = 8;

}  // namespace

// Whether a fault at `at` is the stream's next: inside its window (which may have been cut
// short) or just behind it.
bool Streams::continues(const Stream& s, i64 at) const {
  const i64 from_last = (at - s.last) * (s.stride > 0 ? 1 : -1);
  const i64 reach = (s.next - s.last + s.stride * kSlack) * (s.stride > 0 ? 1 : -1);
  return from_last > 0 && from_last < reach && (at - s.last) % s.stride == 0;
}

Window Streams::on_fault(SpaceId space, Vpn vpn) {
  const i64 at = static_cast<i64>(vpn.v);
  ++now_;
  Stream* nearest = nullptr;
  Stream* oldest = &streams_[0];
  i64 nearest_gap = kStrideMax + 1;
  for (Stream& s : streams_) {
    if (s.used < oldest->used) oldest = &s;
    if (s.used == 0 || s.space != space) continue;
    if (s.last == at) {
      s.used = now_;
      return s.confirmed ? Window{s.window, s.stride} : Window{};
    }
    if (s.confirmed && continues(s, at)) {
      const bool whole = (at - s.next) * (s.stride > 0 ? 1 : -1) >= 0;
      if (whole && s.window < window_max_) s.window *= 2;
      if (s.window > window_max_) s.window = window_max_;
      s.last = at;
      s.next = at + s.stride * s.window;
      s.used = now_;
      return {s.window, s.stride};
    }
    const i64 gap = at > s.last ? at - s.last : s.last - at;
    if (!s.confirmed && gap < nearest_gap) {
      nearest = &s;
      nearest_gap = gap;
    }
  }
  if (nearest == nullptr) {
    *oldest = Stream{};
    oldest->space = space;
    oldest->last = at;
    oldest->used = now_;
    return {};
  }
  const i64 stride = at - nearest->last;
  const bool believed = stride == 1 || stride == -1 || stride == nearest->stride;
  nearest->stride = stride;
  nearest->last = at;
  nearest->used = now_;
  if (!believed) return {};
  nearest->confirmed = true;
  nearest->window = window_min_;
  nearest->next = at + stride * window_min_;
  return {nearest->window, stride};
}

}  // namespace spillway
