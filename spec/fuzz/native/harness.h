/*
 * What the native fuzzers share: a guest's memory with a gap, and JavaScript's way to call a class.
 *
 * Guest memory is two regions, the second at 4 GiB, so that addresses on all sides of both edges
 * are a few bits away. What the code under test may touch is decided here, by arithmetic of our
 * own.
 */
#ifndef ESTALO_FUZZ_HARNESS_H
#define ESTALO_FUZZ_HARNESS_H

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fuzzer/FuzzedDataProvider.h>
#include <memory>
#include <napi.h>
#include <string>
#include <sys/uio.h>

#include "../../../src/native/guest_memory.h"

namespace fuzz {

/* Ends the run: what the code did must never happen. */
#define MUST(condition)                                                                            \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: must be: %s\n", __FILE__, __LINE__, #condition);                     \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

constexpr uint64_t kLowBytes = 16 * 4096;
constexpr uint64_t kHighStart = 1ull << 32;
constexpr uint64_t kHighBytes = 8 * 4096;

/* A JavaScript object of class T: it and its methods. */
template <typename T> class Wrapped {
public:
  explicit Wrapped(const Napi::CallbackInfo& info) : object_(info), class_(T::Define({})) {
    value_.payload().wrapped = &object_;
  }
  Napi::Value Call(const char* name, const Napi::CallbackInfo& info) {
    return class_.calls.at(name)(&object_, info);
  }
  T& object() {
    return object_;
  }
  const Napi::Object& value() const {
    return value_;
  }

private:
  T object_;
  Napi::Function class_;
  Napi::Object value_;
};

/* The guest's memory, made once. */
Wrapped<estalo::GuestMappingObject>& Memory();

/* Whether all of a host range lies in one of its regions. */
bool IsGuests(const void* host, uint64_t size_bytes);
/* The same for guest-physical addresses. */
bool IsGuests(uint64_t gpa, uint64_t size_bytes);

/* An address and a length as a guest would choose them: near an edge, or anywhere. */
uint64_t Address(FuzzedDataProvider& data);
uint64_t Length(FuzzedDataProvider& data);

inline Napi::Number Number(double number) {
  return Napi::Number::New({}, number);
}

/* Takes the pending exception. */
inline bool Threw() {
  bool threw = Napi::Pending();
  Napi::Pending() = false;
  return threw;
}

void FuzzMemory(FuzzedDataProvider& data);
void FuzzTap(FuzzedDataProvider& data);
void FuzzRing(FuzzedDataProvider& data);

} // namespace fuzz

#endif
