/* One KVM virtual machine; see vm.h. */
#include "vm.h"

#include "kvm_core.h"
#include "native_error.h"

namespace estalo {

namespace {

uint64_t Unsigned(const Napi::Value& value) {
  return static_cast<uint64_t>(value.As<Napi::Number>().Int64Value());
}

/*
 * What makes the kernel wait until no CPU can still see something of a VM, 5 to 20 ms, is done on
 * the thread pool: a thread with other microVMs has better to do.
 */
class Patient : public Napi::AsyncWorker {
public:
  explicit Patient(Napi::Env env)
      : Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)) {
  }
  Napi::Promise promise() const {
    return deferred_.Promise();
  }

private:
  void OnOK() override {
    deferred_.Resolve(Env().Undefined());
  }

  Napi::Promise::Deferred deferred_;
};

/* The last descriptor's. */
class Closer : public Patient {
public:
  Closer(Napi::Env env, int fd) : Patient(env), fd_(fd) {
  }

private:
  void Execute() override {
    fd_.Close();
  }

  FileDescriptor fd_;
};

/* The descriptor stays open until it is through. */
class TickDropper : public Patient {
public:
  TickDropper(Napi::Env env, int fd) : Patient(env), fd_(fd) {
  }

private:
  void Execute() override {
    /* Refused only where there is no PIT: then there are no ticks. */
    estalo_kvm_drop_missed_ticks(fd_);
  }

  int fd_;
};

} // namespace

Napi::Function Vm::Define(Napi::Env env) {
  return DefineClass(
      env, "Vm",
      {InstanceMethod<&Vm::SetTssAddr>("setTssAddr"),
       InstanceMethod<&Vm::SetIdentityMapAddr>("setIdentityMapAddr"),
       InstanceMethod<&Vm::CreateIrqchip>("createIrqchip"),
       InstanceMethod<&Vm::CreatePit2>("createPit2"),
       InstanceMethod<&Vm::DropMissedTicks>("dropMissedTicks"),
       InstanceMethod<&Vm::SetUserMemory>("setUserMemory"),
       InstanceMethod<&Vm::SetMemorySlot>("setMemorySlot"),
       InstanceMethod<&Vm::RemoveMemorySlot>("removeMemorySlot"),
       InstanceMethod<&Vm::SetFileSlot>("setFileSlot"), InstanceMethod<&Vm::Ioeventfd>("ioeventfd"),
       InstanceMethod<&Vm::Irqfd>("irqfd"), InstanceMethod<&Vm::PulseIrq>("pulseIrq"),
       InstanceMethod<&Vm::CreateVcpu>("createVcpu"), InstanceMethod<&Vm::Close>("close")});
}

Vm::Vm(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Vm>(info) {
  fd_.Reset(info[0].As<Napi::Number>().Int32Value());
}

void Vm::SetTssAddr(const Napi::CallbackInfo& info) {
  Succeeded(info.Env(), "KVM_SET_TSS_ADDR", estalo_kvm_set_tss_addr(fd_.get(), Unsigned(info[0])));
}

void Vm::SetIdentityMapAddr(const Napi::CallbackInfo& info) {
  Succeeded(info.Env(), "KVM_SET_IDENTITY_MAP_ADDR",
            estalo_kvm_set_identity_map_addr(fd_.get(), Unsigned(info[0])));
}

void Vm::CreateIrqchip(const Napi::CallbackInfo& info) {
  Succeeded(info.Env(), "KVM_CREATE_IRQCHIP", estalo_kvm_create_irqchip(fd_.get()));
}

void Vm::CreatePit2(const Napi::CallbackInfo& info) {
  Succeeded(info.Env(), "KVM_CREATE_PIT2", estalo_kvm_create_pit2(fd_.get()));
}

Napi::Value Vm::DropMissedTicks(const Napi::CallbackInfo& info) {
  auto* dropper = new TickDropper(info.Env(), fd_.get());
  dropper->Queue();
  return dropper->promise();
}

void Vm::SetUserMemory(const Napi::CallbackInfo& info) {
  memory_ = GuestMappingObject::Unwrap(info[0].As<Napi::Object>())->mapping();
  uint32_t slot = 0;
  for (const Region& region : memory_->regions()) {
    if (region.block_bytes != 0) continue;
    int result = estalo_kvm_set_user_memory_region(
        fd_.get(), slot++, region.start, region.size_bytes, memory_->base() + region.start, 0);
    if (!Succeeded(info.Env(), "KVM_SET_USER_MEMORY_REGION", result)) return;
  }
}

void Vm::SetMemorySlot(const Napi::CallbackInfo& info) {
  uint64_t gpa = Unsigned(info[1]);
  uint64_t bytes = Unsigned(info[2]);
  if (memory_ == nullptr || gpa > memory_->end() || bytes > memory_->end() - gpa || bytes == 0) {
    ThrowBug(info.Env(), "a range of guest memory");
    return;
  }
  Succeeded(info.Env(), "KVM_SET_USER_MEMORY_REGION",
            estalo_kvm_set_user_memory_region(fd_.get(), info[0].As<Napi::Number>().Uint32Value(),
                                              gpa, bytes, memory_->base() + gpa, 0));
}

void Vm::RemoveMemorySlot(const Napi::CallbackInfo& info) {
  Succeeded(info.Env(), "KVM_SET_USER_MEMORY_REGION",
            estalo_kvm_set_user_memory_region(fd_.get(), info[0].As<Napi::Number>().Uint32Value(),
                                              0, 0, nullptr, 0));
}

void Vm::SetFileSlot(const Napi::CallbackInfo& info) {
  std::shared_ptr<MappedFile> file = FileMapping::Unwrap(info[2].As<Napi::Object>())->file();
  if (file == nullptr) {
    ThrowBug(info.Env(), "an open file mapping");
    return;
  }
  int result = estalo_kvm_set_user_memory_region(
      fd_.get(), info[0].As<Napi::Number>().Uint32Value(), Unsigned(info[1]), file->size_bytes(),
      file->base(), file->read_only());
  if (Succeeded(info.Env(), "KVM_SET_USER_MEMORY_REGION", result)) files_.push_back(file);
}

void Vm::Ioeventfd(const Napi::CallbackInfo& info) {
  int64_t match = info[3].As<Napi::Number>().Int64Value();
  Succeeded(info.Env(), "KVM_IOEVENTFD",
            estalo_kvm_ioeventfd(fd_.get(), info[0].As<Napi::Number>().Int32Value(),
                                 Unsigned(info[1]), info[2].As<Napi::Number>().Uint32Value(),
                                 match >= 0, match >= 0 ? static_cast<uint64_t>(match) : 0, 0, 0));
}

void Vm::Irqfd(const Napi::CallbackInfo& info) {
  Succeeded(info.Env(), "KVM_IRQFD",
            estalo_kvm_irqfd(fd_.get(), info[0].As<Napi::Number>().Int32Value(),
                             info[1].As<Napi::Number>().Uint32Value(), 0));
}

void Vm::PulseIrq(const Napi::CallbackInfo& info) {
  Succeeded(info.Env(), "KVM_IRQ_LINE",
            estalo_kvm_pulse_irq(fd_.get(), info[0].As<Napi::Number>().Uint32Value()));
}

Napi::Value Vm::CreateVcpu(const Napi::CallbackInfo& info) {
  int fd = estalo_kvm_create_vcpu(fd_.get(), info[0].As<Napi::Number>().Uint32Value());
  if (!Succeeded(info.Env(), "KVM_CREATE_VCPU", fd)) return {};
  return Napi::Number::New(info.Env(), fd);
}

Napi::Value Vm::Close(const Napi::CallbackInfo& info) {
  memory_.reset();
  files_.clear();
  auto* closer = new Closer(info.Env(), fd_.Release());
  closer->Queue();
  return closer->promise();
}

} // namespace estalo
