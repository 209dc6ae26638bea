#include "tools/cmd_chat.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "engine/sampler.h"
#include "io/base.h"
#include "models/chat_template.h"
#include "tools/exit_codes.h"
#include "tools/generate.h"
#include "tools/interrupt.h"
#include "tools/model_options.h"
#include "tools/open_engine.h"
#include "tools/planned_run.h"
#include "tools/prompt.h"
#include "tools/report.h"
#include "tools/sampler_options.h"
#include "tools/text_stream.h"

namespace weir {
namespace {

struct ChatOptions {
  ModelOptions model;
  SamplingFlags sampling;
  std::string system;
};

// One line of the user's; nullopt at the end of input or on an interrupt.
std::optional<std::string> ReadLine(bool is_terminal) {
  if (is_terminal) {
    std::fputs("> ", stderr);
    std::fflush(stderr);
  }
  std::string line;
  char c = 0;
  while (true) {
    const ssize_t got = read(STDIN_FILENO, &c, 1);
    if (got == 1 && c != '\n') {
      line.push_back(c);
      continue;
    }
    if (got == 1 || (got == 0 && !line.empty())) return line;
    return std::nullopt;  // end of input, or EINTR from Ctrl-C
  }
}

// The conversation so far, and what of it the session has seen.
class Conversation {
 public:
  Conversation(const Model& model, ChatFamily family, const ChatOptions& options)
      : model_(model), family_(family) {
    if (!options.system.empty()) messages_.push_back({"system", options.system});
  }

  // Tokens of the whole conversation with this turn, up to the head of the answer.
  absl::StatusOr<std::vector<TokenId>> Ask(const std::string& text) {
    messages_.push_back({"user", text});
    WEIR_ASSIGN_OR_RETURN(const std::string formatted,
                          FormatChat(family_, model_.chat_template, messages_, true));
    return model_.tokenizer->Encode(formatted, {.add_special = true, .parse_special = true});
  }
  void Answered(std::string text) { messages_.push_back({"assistant", std::move(text)}); }

 private:
  const Model& model_;
  ChatFamily family_;
  std::vector<ChatMessage> messages_;
};

// A session that holds a prefix of `tokens`: the present one where it does, else a new one.
std::unique_ptr<Session> SessionFor(Engine& engine, std::unique_ptr<Session> session,
                                    const std::vector<TokenId>& tokens) {
  const std::vector<TokenId>& seen = session->tokens();
  const bool is_prefix =
      seen.size() < tokens.size() && std::equal(seen.begin(), seen.end(), tokens.begin());
  if (is_prefix) return session;
  session.reset();  // its pages must be free before the next one asks for them
  return engine.NewSession();
}

struct Turn {
  Engine& engine;
  const Model& model;
  Sampler& sampler;
  const GenerateOptions& generate;
};

// Generates one answer; its text is printed as it comes and returned.
absl::StatusOr<std::string> Answer(const Turn& turn, Session& session,
                                   const std::vector<TokenId>& tokens) {
  const absl::Span<const TokenId> fresh =
      absl::MakeConstSpan(tokens).subspan(session.tokens().size());
  TextStream stream(stdout);
  std::string text;
  WEIR_ASSIGN_OR_RETURN(const Generation generation,
                        Generate(turn.engine, session, turn.sampler, *turn.model.tokenizer, fresh,
                                 turn.generate, [&](TokenId token) {
                                   const std::string bytes =
                                       turn.model.tokenizer->TokenBytes(token, false);
                                   text += bytes;
                                   return stream.Write(bytes);
                                 }));
  WEIR_RETURN_IF_ERROR(stream.Finish());
  if (generation.stop == Generation::Stop::kContextFull) {
    std::fprintf(stderr,
                 "weir: the context of %u tokens is full; the next turn begins a new conversation. "
                 "Raise -c\n",
                 turn.engine.plan().shape.context_tokens);
  }
  return text;
}

absl::Status Chat(const ChatOptions& options) {
  const bool is_terminal = isatty(STDIN_FILENO) == 1;
  if (!options.model.json_path.empty()) {
    return WithExitCode(ExitCode::kUsage, absl::InvalidArgumentError(
                                              "a conversation writes no --json. Use `weir run`"));
  }
  WEIR_ASSIGN_OR_RETURN(const SamplerOptions sampler_options, SamplerFrom(options.sampling));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, OpenModel(options.model));
  WEIR_ASSIGN_OR_RETURN(const std::optional<ChatFamily> family, ModelChatFamily(*model));
  if (!family.has_value()) {
    return WithExitCode(
        ExitCode::kUsage,
        absl::InvalidArgumentError(absl::StrCat(
            model->path, ": the model has no chat template. Use `weir run --no-chat`")));
  }
  WEIR_ASSIGN_OR_RETURN(PlannedRun run, PlanFromOptions(*model, options.model, ContextNeeds()));
  Sampler sampler(sampler_options, model->config.vocabulary);
  run.top_logits = sampler.candidates();
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                        OpenEngine(*model, &run, options.model));
  const GenerateOptions generate = {.max_tokens = options.sampling.max_tokens,
                                    .ignore_end = options.sampling.ignore_end};
  const Turn turn{*engine, *model, sampler, generate};
  std::unique_ptr<Session> session = engine->NewSession();
  std::optional<Conversation> conversation(std::in_place, *model, *family, options);
  if (is_terminal) std::fputs("Ctrl-C ends an answer, Ctrl-D the conversation.\n", stderr);
  while (const std::optional<std::string> line = ReadLine(is_terminal)) {
    if (line->empty()) continue;
    WEIR_ASSIGN_OR_RETURN(std::vector<TokenId> tokens, conversation->Ask(*line));
    if (tokens.size() >= engine->plan().shape.context_tokens) {
      std::fputs(
          "weir: the conversation does not fit the context any more; it begins anew with this "
          "turn\n",
          stderr);
      conversation.emplace(*model, *family, options);
      WEIR_ASSIGN_OR_RETURN(tokens, conversation->Ask(*line));
    }
    session = SessionFor(*engine, std::move(session), tokens);
    absl::StatusOr<std::string> answer = Answer(turn, *session, tokens);
    if (!answer.ok()) {
      const ExitCode code =
          absl::IsOutOfRange(answer.status()) ? ExitCode::kContext : ExitCode::kIo;
      return WithExitCode(code, answer.status());
    }
    conversation->Answered(*answer);
    if (Interrupted() && (!is_terminal || InterruptExitCode() == ExitCode::kTerminated)) break;
    ClearInterrupt();
  }
  if (is_terminal) std::fputs("\n", stderr);
  if (!Interrupted()) return absl::OkStatus();
  return WithExitCode(InterruptExitCode(), absl::CancelledError("interrupted"));
}

}  // namespace

void AddChatCommand(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<ChatOptions>();
  CLI::App* command = app.add_subcommand("chat", "hold a conversation");
  AddRunOptions(*command, &options->model);
  command->add_option("--system", options->system, "system message");
  AddSamplingOptions(*command, &options->sampling);
  command->callback([options, exit_code] { *exit_code = ReportStatus(Chat(*options)); });
}

}  // namespace weir
