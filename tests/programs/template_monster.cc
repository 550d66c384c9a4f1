// Input for the compiler, never linked: a template-heavy file of the kind that makes g++ the
// process that a CI container kills. MONSTER_SIZE families of types are instantiated through the
// standard containers, sorted, visited and erased; every one costs g++ -O2 about 30 MB.
//
//   g++ -std=c++17 -O2 -c template_monster.cc                      the demo: 420 MB with g++ 12
//   g++ -std=c++17 -O2 -DMONSTER_SIZE=2 -c template_monster.cc    for CI: 200 MB
//
// Nothing here depends on time, file names or addresses: the same compiler writes the same object
// file, byte for byte, which is how a test knows that no page of the compiler's heap went wrong.
#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <numeric>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#ifndef MONSTER_SIZE
#define MONSTER_SIZE 8
#endif

namespace monster {

template <std::size_t N>
struct Scale {
  std::array<long, N % 7 + 1> teeth{};
  std::string colour;
  bool operator<(const Scale& other) const {
    return std::tie(teeth, colour) < std::tie(other.teeth, other.colour);
  }
};

template <std::size_t N>
struct Claw {
  double length = static_cast<double>(N) * 0.5;
  std::vector<Scale<N>> scales;
};

template <std::size_t N>
using Limb = std::variant<long, std::string, Scale<N>, Claw<N>>;

template <std::size_t N>
struct Weigh {
  long operator()(long weight) const { return weight + static_cast<long>(N); }
  long operator()(const std::string& name) const { return static_cast<long>(name.size()); }
  long operator()(const Scale<N>& scale) const {
    return std::accumulate(scale.teeth.begin(), scale.teeth.end(), long{0});
  }
  long operator()(const Claw<N>& claw) const {
    return std::accumulate(
        claw.scales.begin(), claw.scales.end(), long{0},
        [this](long sum, const Scale<N>& scale) { return sum + (*this)(scale); });
  }
};

template <std::size_t N>
long grow(long seed) {
  std::map<Scale<N>, std::vector<Limb<N>>> nest;
  std::unordered_map<std::string, Claw<N>> drawer;
  for (long i = 0; i < seed; ++i) {
    Scale<N> scale;
    scale.teeth.fill(i * static_cast<long>(N));
    scale.colour = std::to_string(i);
    Claw<N>& claw = drawer[scale.colour];
    claw.scales.push_back(scale);
    std::sort(claw.scales.begin(), claw.scales.end());
    std::vector<Limb<N>>& limbs = nest[scale];
    limbs.emplace_back(i);
    limbs.emplace_back(scale.colour);
    limbs.emplace_back(scale);
    limbs.emplace_back(claw);
  }
  std::function<long(const Limb<N>&)> weigh = [](const Limb<N>& limb) {
    return std::visit(Weigh<N>{}, limb);
  };
  long total = 0;
  for (auto& [scale, limbs] : nest) {
    std::stable_sort(limbs.begin(), limbs.end(),
                     [&](const Limb<N>& a, const Limb<N>& b) { return weigh(a) < weigh(b); });
    for (const Limb<N>& limb : limbs) {
      total += std::visit(Weigh<N>{}, limb);
    }
  }
  return total;
}

template <std::size_t... N>
long grow_all(long seed, std::index_sequence<N...>) {
  return (grow<N>(seed) + ...);
}

}  // namespace monster

long monster_total(long seed) {
  return monster::grow_all(seed, std::make_index_sequence<MONSTER_SIZE>{});
}
