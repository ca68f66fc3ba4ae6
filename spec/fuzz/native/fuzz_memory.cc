/*
 * Guest memory: an address becomes a pointer if, and only if, all of its range is the guest's;
 * given back, whole pages of it read zeros, and nothing else changes.
 */
#include "harness.h"

namespace fuzz {

namespace {

constexpr uint64_t kPageBytes = 4096;

void FuzzAddress(FuzzedDataProvider& data) {
  const auto& mapping = Memory().object().mapping();
  uint64_t gpa = Address(data);
  uint64_t size_bytes = Length(data);
  auto* at = static_cast<uint8_t*>(mapping->HostAddress(gpa, size_bytes));
  MUST((at != nullptr) == IsGuests(gpa, size_bytes));
  if (at == nullptr) return;
  MUST(at == mapping->base() + gpa);
  if (size_bytes == 0) return;
  // Both ends are memory.
  at[0] = 1;
  at[size_bytes - 1] = 2;
}

void FuzzReclaim(FuzzedDataProvider& data) {
  const auto& mapping = Memory().object().mapping();
  size_t count = data.ConsumeIntegralInRange<size_t>(0, 8);
  Napi::Float64Array starts = Napi::Float64Array::New({}, count);
  Napi::Float64Array lengths = Napi::Float64Array::New({}, count);
  double expected = 0;
  for (size_t i = 0; i < count; i++) {
    uint64_t grain = data.ConsumeBool() ? kPageBytes : 1;
    auto start = static_cast<double>(Address(data) / grain * grain);
    auto bytes = static_cast<double>(Length(data) / grain * grain);
    starts.Data()[i] = start;
    lengths.Data()[i] = bytes;
    if (start > 1e15 || bytes > 1e15 || bytes == 0) continue;
    auto gpa = static_cast<uint64_t>(start);
    auto size_bytes = static_cast<uint64_t>(bytes);
    if (gpa % kPageBytes != 0 || size_bytes % kPageBytes != 0 || !IsGuests(gpa, size_bytes))
      continue;
    expected += bytes;
    mapping->base()[gpa] = 3;
  }
  auto asked = data.ConsumeIntegralInRange<uint32_t>(0, static_cast<uint32_t>(count) + 1);
  Napi::Value freed = Memory().Call("reclaim", {starts, lengths, Number(asked)});
  MUST(Threw() == (asked > count));
  if (asked != count) return;
  MUST(freed.As<Napi::Number>().DoubleValue() == expected);
  for (size_t i = 0; i < count; i++) {
    if (starts.Data()[i] > 1e15 || lengths.Data()[i] > 1e15) continue;
    auto gpa = static_cast<uint64_t>(starts.Data()[i]);
    auto size_bytes = static_cast<uint64_t>(lengths.Data()[i]);
    bool whole = size_bytes > 0 && gpa % kPageBytes == 0 && size_bytes % kPageBytes == 0;
    if (whole && IsGuests(gpa, size_bytes)) MUST(mapping->base()[gpa] == 0);
  }
}

} // namespace

void FuzzMemory(FuzzedDataProvider& data) {
  for (int turn = 0; turn < 16 && data.remaining_bytes() > 0; turn++) {
    if (data.ConsumeIntegralInRange(0, 7) == 0)
      FuzzReclaim(data);
    else
      FuzzAddress(data);
  }
}

} // namespace fuzz
