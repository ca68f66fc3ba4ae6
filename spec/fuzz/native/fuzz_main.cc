/* The fuzzers' entry: the first byte of an input says what it is for. */
#include "harness.h"

namespace fuzz {

Wrapped<estalo::GuestMappingObject>& Memory() {
  static Wrapped<estalo::GuestMappingObject>* memory = [] {
    Napi::Array regions;
    for (auto [start, size_bytes] : {std::pair{0ull, kLowBytes}, {kHighStart, kHighBytes}}) {
      Napi::Object region;
      region.Set("start", Number(static_cast<double>(start)));
      region.Set("sizeBytes", Number(static_cast<double>(size_bytes)));
      regions.payload().items.push_back(region);
    }
    return new Wrapped<estalo::GuestMappingObject>({regions, Number(0)});
  }();
  MUST(memory->object().mapping() != nullptr);
  return *memory;
}

bool IsGuests(uint64_t gpa, uint64_t size_bytes) {
  // Too wide to wrap.
  auto start = static_cast<unsigned __int128>(gpa);
  auto end = start + size_bytes;
  return end <= kLowBytes || (start >= kHighStart && end <= kHighStart + kHighBytes);
}

bool IsGuests(const void* host, uint64_t size_bytes) {
  auto base = reinterpret_cast<uintptr_t>(Memory().object().mapping()->base());
  auto at = reinterpret_cast<uintptr_t>(host);
  return at >= base && IsGuests(static_cast<uint64_t>(at - base), size_bytes);
}

uint64_t Address(FuzzedDataProvider& data) {
  static const uint64_t edges[] = {0, kLowBytes, kHighStart, kHighStart + kHighBytes, 1ull << 52};
  switch (data.ConsumeIntegralInRange(0, 3)) {
  case 0:
    return data.ConsumeIntegral<uint64_t>();
  case 1:
    return data.PickValueInArray(edges) + data.ConsumeIntegral<int8_t>();
  case 2:
    return kHighStart + data.ConsumeIntegralInRange<uint64_t>(0, kHighBytes);
  default:
    return data.ConsumeIntegralInRange<uint64_t>(0, kLowBytes);
  }
}

uint64_t Length(FuzzedDataProvider& data) {
  switch (data.ConsumeIntegralInRange(0, 3)) {
  case 0:
    return data.ConsumeIntegral<uint64_t>();
  case 1:
    return data.ConsumeIntegralInRange<uint64_t>(0, 2 * kLowBytes);
  default:
    return data.ConsumeIntegralInRange<uint64_t>(0, 4096);
  }
}

} // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  switch (data.ConsumeIntegralInRange(0, 2)) {
  case 0:
    fuzz::FuzzMemory(data);
    break;
  case 1:
    fuzz::FuzzTap(data);
    break;
  default:
    fuzz::FuzzRing(data);
  }
  return 0;
}
