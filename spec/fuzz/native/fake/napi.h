/*
 * As much of node-addon-api as src/native's memory, taps and rings use, over plain memory: fuzzers
 * call the addon's own classes by their JavaScript names, with no Node.js behind them.
 *
 * An exception is a flag that the fuzzer takes; the code under test returns by itself, as it has
 * to.
 */
#ifndef ESTALO_FUZZ_NAPI_H
#define ESTALO_FUZZ_NAPI_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <vector>

typedef void* napi_value;

namespace Napi {

struct Env {};

/* The one pending exception. */
inline bool& Pending() {
  static bool pending = false;
  return pending;
}

class Value;

/* What a value may be, all at once. */
struct Payload {
  double number = 0;
  bool is_number = false;
  std::string text;
  std::vector<uint8_t> bytes;
  std::vector<Value> items;
  std::map<std::string, Value> fields;
  void* wrapped = nullptr;
};

class Boolean;

class Value {
public:
  Value() : payload_(std::make_shared<Payload>()) {
  }
  Value(Env, napi_value) : Value() {
  }
  template <typename T> T As() const {
    T as;
    as.payload_ = payload_;
    return as;
  }
  Boolean ToBoolean() const;
  bool IsNumber() const {
    return payload_->is_number;
  }
  Payload& payload() const {
    return *payload_;
  }

protected:
  template <typename T> static T Of(double number) {
    T made;
    made.payload().number = number;
    return made;
  }

private:
  std::shared_ptr<Payload> payload_;
};

class Number : public Value {
public:
  static Number New(Env, double number) {
    auto made = Of<Number>(number);
    made.payload().is_number = true;
    return made;
  }
  double DoubleValue() const {
    return payload().number;
  }
  // As V8 does: modulo 2^32, and 0 for what is no number.
  uint32_t Uint32Value() const {
    return static_cast<uint32_t>(Int64Value());
  }
  int32_t Int32Value() const {
    return static_cast<int32_t>(Uint32Value());
  }
  int64_t Int64Value() const {
    double number = payload().number;
    return number > -9e18 && number < 9e18 ? static_cast<int64_t>(number) : 0;
  }
};

class Boolean : public Value {
public:
  static Boolean New(Env, bool is) {
    return Of<Boolean>(is);
  }
  bool Value() const {
    return payload().number != 0;
  }
  operator bool() const {
    return Value();
  }
};

inline Boolean Value::ToBoolean() const {
  return As<Boolean>();
}

class String : public Value {
public:
  static String New(Env, const std::string& text) {
    String made;
    made.payload().text = text;
    return made;
  }
  const std::string& Utf8Value() const {
    return payload().text;
  }
};

class Object : public Value {
public:
  Value Get(const char* name) const {
    return payload().fields[name];
  }
  void Set(const char* name, const Value& value) {
    payload().fields[name] = value;
  }
};

class Array : public Object {
public:
  using Object::Get;
  uint32_t Length() const {
    return static_cast<uint32_t>(payload().items.size());
  }
  Value Get(uint32_t index) const {
    return payload().items.at(index);
  }
};

template <typename Element> class TypedArrayOf : public Object {
public:
  static TypedArrayOf New(Env, size_t length) {
    TypedArrayOf made;
    // Exactly that long, on the heap: the sanitizer sees the byte after it.
    made.payload().bytes = std::vector<uint8_t>(length * sizeof(Element));
    return made;
  }
  Element* Data() const {
    return reinterpret_cast<Element*>(payload().bytes.data());
  }
  size_t ElementLength() const {
    return payload().bytes.size() / sizeof(Element);
  }
  size_t ByteLength() const {
    return payload().bytes.size();
  }
};

using Float64Array = TypedArrayOf<double>;
using Int32Array = TypedArrayOf<int32_t>;
using Uint32Array = TypedArrayOf<uint32_t>;
using Uint16Array = TypedArrayOf<uint16_t>;
using Uint8Array = TypedArrayOf<uint8_t>;

class CallbackInfo {
public:
  CallbackInfo(std::initializer_list<Value> arguments) : arguments_(arguments) {
  }
  Napi::Env Env() const {
    return {};
  }
  Value operator[](size_t index) const {
    return index < arguments_.size() ? arguments_[index] : Value();
  }

private:
  std::vector<Value> arguments_;
};

class Error : public Object {
public:
  static Error New(Env, const std::string&) {
    return {};
  }
  void ThrowAsJavaScriptException() const {
    Pending() = true;
  }
};
using TypeError = Error;

template <typename T> class Reference {
public:
  Reference() = default;
  explicit Reference(const T& value) : value_(value) {
  }
  T Value() const {
    return value_;
  }

private:
  T value_;
};
template <typename T> Reference<T> Persistent(const T& value) {
  return Reference<T>(value);
}

struct MemoryManagement {
  static int64_t AdjustExternalMemory(Env, int64_t) {
    return 0;
  }
};

/* A class: its methods and accessors by name. */
struct Function {
  using Call = std::function<Value(void*, const CallbackInfo&)>;
  std::map<std::string, Call> calls;
};

template <typename T> class ObjectWrap {
public:
  explicit ObjectWrap(const CallbackInfo&) {
  }
  virtual ~ObjectWrap() = default;
  Napi::Env Env() const {
    return {};
  }
  static T* Unwrap(const Object& object) {
    return static_cast<T*>(object.payload().wrapped);
  }

protected:
  using Property = std::pair<const std::string, Function::Call>;

  static Function DefineClass(Napi::Env, const char*, std::initializer_list<Property> properties) {
    return {{properties.begin(), properties.end()}};
  }
  template <void (T::*method)(const CallbackInfo&)>
  static Property InstanceMethod(const char* name) {
    return {name, [](void* object, const CallbackInfo& info) {
              (static_cast<T*>(object)->*method)(info);
              return Value();
            }};
  }
  template <Value (T::*method)(const CallbackInfo&)>
  static Property InstanceMethod(const char* name) {
    return {name, [](void* object, const CallbackInfo& info) {
              return (static_cast<T*>(object)->*method)(info);
            }};
  }
  template <Value (T::*method)(const CallbackInfo&)>
  static Property InstanceAccessor(const char* name) {
    return InstanceMethod<method>(name);
  }
};

} // namespace Napi

#endif
