import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { ReadonlyJSONObject, ReadonlyPartialJSONObject } from '@lumino/coreutils';
import { elasticIcon } from '../icons';
import { loadLazy } from '../loadLazy';
import { IResourceWish, IStartRequest, ITemplate } from '../request';
import { verbs } from '../verbs';
import { CommandIDs, IElasticActions, IElasticModel, PACKAGE } from '../tokens';
import { warmBadge } from '../warmth';

const RESOURCES: ReadonlyJSONObject = {
  type: 'object',
  description: 'Quantities in the notation of Kubernetes; what is left out stays.',
  properties: {
    cpu: { type: 'string' },
    memory: { type: 'string' },
    gpu: {
      type: ['object', 'null'],
      properties: { kind: { type: 'string' }, count: { type: 'integer' } }
    }
  }
};

const KERNEL_ID: ReadonlyJSONObject = {
  type: 'string',
  description: 'Id of the kernel; default: that of the current document.'
};

/** Commands that are about a kernel that is there. */
const OF_KERNEL: readonly string[] = [
  CommandIDs.resizeKernel,
  CommandIDs.stopKernel,
  CommandIDs.openKernel,
  CommandIDs.attachKernel,
  CommandIDs.restartKernel,
  CommandIDs.keepKernel,
  CommandIDs.copyLink
];

/** Id of the kernel whose row in the panel the context menu was opened on. */
function rowAt(app: JupyterFrontEnd): string | null {
  const row = app.contextMenuHitTest?.(node => node.dataset.kernelId !== undefined);
  return row?.dataset.kernelId ?? null;
}

/** Start, resize, stop: for the palette, keyboard shortcuts and other extensions. */
export const commandsPlugin: JupyterFrontEndPlugin<void> = {
  id: `${PACKAGE}:commands`,
  description: 'Commands for elastic kernels.',
  autoStart: true,
  requires: [IElasticModel, IElasticActions],
  optional: [ITranslator, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    model: IElasticModel,
    { actions, current }: IElasticActions,
    translator: ITranslator | null,
    palette: ICommandPalette | null
  ) => {
    const trans = (translator ?? nullTranslator).load('jupyter_elastic');
    const { commands } = app;
    const idOf = (args: ReadonlyPartialJSONObject): string | null =>
      typeof args.kernelId === 'string'
        ? args.kernelId
        : (rowAt(app) ?? current.kernelId);
    const templateOf = (args: ReadonlyPartialJSONObject): ITemplate | null =>
      typeof args.template === 'string' ? model.template(args.template) : null;
    const isElastic = (args: ReadonlyPartialJSONObject): boolean =>
      model.kernel(idOf(args)) !== null;
    const tried = async <T>(
      failure: string,
      work: () => Promise<T>
    ): Promise<T | undefined> => {
      try {
        return await work();
      } catch (error) {
        await actions.showProblem(failure, error);
        return undefined;
      }
    };

    commands.addCommand(CommandIDs.startKernel, {
      label: trans.__('Start Elastic Kernel…'),
      caption: trans.__(
        'Start an elastic kernel for the current notebook, or for a new one'
      ),
      icon: args => (args.isPalette ? undefined : elasticIcon),
      describedBy: {
        args: {
          type: 'object',
          properties: {
            template: {
              type: 'string',
              description: trans.__(
                'Name of the template; without it, the form is shown.'
              )
            },
            resources: RESOURCES,
            name: { type: 'string' },
            path: { type: 'string' },
            ask: {
              type: 'boolean',
              default: true,
              description: trans.__(
                'Whether to ask first where variables would be lost.'
              )
            }
          }
        }
      },
      execute: async args => {
        if (typeof args.template !== 'string') {
          return commands.execute(CommandIDs.openPanel, { section: 'start' });
        }
        const request: IStartRequest = {
          template: args.template,
          resources: args.resources as IResourceWish | undefined,
          name: args.name as string | undefined,
          path: args.path as string | undefined
        };
        return tried(trans.__('Cannot start the kernel'), async () => {
          const begun = await actions.start(request, {
            hasConsent: args.ask === false
          });
          await begun?.attached;
          return begun?.start.kernel.kernel_id;
        });
      }
    });

    commands.addCommand(CommandIDs.resizeKernel, {
      label: trans.__('Resize Elastic Kernel…'),
      caption: trans.__('Change CPU and memory of the kernel while it runs'),
      describedBy: {
        args: {
          type: 'object',
          properties: {
            kernelId: KERNEL_ID,
            resources: RESOURCES
          }
        }
      },
      isEnabled: isElastic,
      execute: async args => {
        const id = idOf(args);
        if (!id || !args.resources) {
          return commands.execute(CommandIDs.openPanel, { section: 'kernel' });
        }
        const wish = args.resources as IResourceWish;
        await tried(trans.__('Cannot resize the kernel'), () =>
          actions.resizeOrMove(id, wish)
        );
      }
    });

    commands.addCommand(CommandIDs.stopKernel, {
      label: trans.__('Stop Elastic Kernel'),
      caption: trans.__('End the kernel; its variables are lost'),
      describedBy: {
        args: {
          type: 'object',
          properties: {
            kernelId: KERNEL_ID,
            ask: {
              type: 'boolean',
              default: true,
              description: trans.__('Whether to ask first.')
            }
          }
        }
      },
      isEnabled: isElastic,
      execute: async args => {
        const id = idOf(args);
        if (id) {
          await tried(trans.__('Cannot stop the kernel'), () =>
            actions.stop(id, args.ask !== false)
          );
        }
      }
    });

    commands.addCommand(CommandIDs.chooseKernel, {
      label: args => {
        const template = args.isLauncher ? templateOf(args) : null;
        if (!template) {
          return trans.__('Choose Elastic Kernel and Resources…');
        }
        const badge = warmBadge(template, trans, model.remembered);
        return badge ? `${template.display_name} · ${badge}` : template.display_name;
      },
      caption: args =>
        templateOf(args)?.description ||
        trans.__('Choose template, CPU, memory and GPU, and start a kernel'),
      icon: args => (args.isPalette ? undefined : elasticIcon),
      describedBy: {
        args: {
          type: 'object',
          properties: {
            template: {
              type: 'string',
              description: trans.__('Name of the template to begin with.')
            },
            isNew: {
              type: 'boolean',
              default: false,
              description: trans.__('Whether for a new notebook in any case.')
            }
          }
        }
      },
      execute: async args => {
        const isNew = args.isNew === true || !current.sessionContext;
        const { showStartDialog } = await loadLazy();
        return showStartDialog({
          model,
          actions,
          trans,
          template: typeof args.template === 'string' ? args.template : undefined,
          target: isNew ? '' : current.name,
          isNew,
          iconUrl: path => new URL(path, app.serviceManager.serverSettings.baseUrl).href
        });
      }
    });

    for (const verb of verbs(model, actions, trans)) {
      commands.addCommand(verb.command, {
        label: verb.label,
        caption: verb.caption,
        describedBy: { args: { type: 'object', properties: { kernelId: KERNEL_ID } } },
        isEnabled: args => {
          const kernel = model.kernel(idOf(args));
          return kernel !== null && verb.isPossible(kernel);
        },
        execute: async args => {
          const kernel = model.kernel(idOf(args));
          if (kernel) {
            await tried(verb.failure, () => verb.do(kernel));
          }
        }
      });
    }

    const changed = (): void => {
      for (const command of OF_KERNEL) {
        commands.notifyCommandChanged(command);
      }
    };
    current.changed.connect(changed);

    const category = trans.__('Elastic Kernels');
    for (const command of [
      CommandIDs.startKernel,
      CommandIDs.chooseKernel,
      CommandIDs.resizeKernel,
      CommandIDs.restartKernel,
      CommandIDs.keepKernel,
      CommandIDs.copyLink,
      CommandIDs.stopKernel
    ]) {
      palette?.addItem({ command, category, args: { isPalette: true } });
    }
  }
};
