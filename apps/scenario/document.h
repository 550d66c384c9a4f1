// Document: a run as JSON, schema "spillway.scenario/1", and as one HTML page that holds the
// same data with a picture for each step. docs/man/spillway-scenario.1 describes the schema.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "workload/runner.h"

namespace spillway {

class Document final : public RunListener {
 public:
  enum class Pictures : u8 { no, yes };
  explicit Document(Pictures pictures) : pictures_(pictures) {}

  void begin(const Scenario& scenario, const Stage& stage, const Picture& picture) override;
  bool step(const StepRecord& record, const Picture& before, const Picture& after) override;
  // The whole document; `file` is the scenario's name, `exit_code` that of the command.
  nlohmann::json finish(const RunResult& result, const std::string& file, int exit_code);

 private:
  const Pictures pictures_;
  nlohmann::json json_;
};

nlohmann::json picture_json(const Picture& picture);
// The page, with `document` inside.
std::string html_page(const nlohmann::json& document);

}  // namespace spillway
