/* As much of V8 as src/native/guest_memory.cc names; fuzzers ask for no buffer. */
#ifndef ESTALO_FUZZ_V8_H
#define ESTALO_FUZZ_V8_H

#include <cstddef>
#include <memory>

namespace v8 {

struct Isolate {
  static Isolate* GetCurrent() {
    return nullptr;
  }
};

struct BackingStore {};

struct Value {};

template <typename T> struct Local {
  T* operator*() const {
    return nullptr;
  }
};

struct SharedArrayBuffer {
  static std::unique_ptr<BackingStore> NewBackingStore(void*, size_t,
                                                       void (*)(void*, size_t, void*), void*) {
    return nullptr;
  }
  static Local<Value> New(Isolate*, std::unique_ptr<BackingStore>) {
    return {};
  }
};

} // namespace v8

#endif
