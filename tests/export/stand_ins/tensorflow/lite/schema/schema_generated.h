// A stand-in: see README.md of this folder.
#ifndef STAND_IN_SCHEMA_GENERATED_H_
#define STAND_IN_SCHEMA_GENERATED_H_

namespace tflite {

struct Model {
  int version() const;
};

const Model* GetModel(const void* buffer);

}  // namespace tflite

#endif
