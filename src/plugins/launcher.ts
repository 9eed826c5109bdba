import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILauncher } from '@jupyterlab/launcher';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { IDisposable } from '@lumino/disposable';
import { CommandIDs, IElasticModel, PACKAGE } from '../tokens';

/** One card for each template, which says whether it is warm and asks for the resources. */
export const launcherPlugin: JupyterFrontEndPlugin<void> = {
  id: `${PACKAGE}:launcher`,
  description: 'Offers elastic kernels in the launcher.',
  autoStart: true,
  requires: [IElasticModel],
  optional: [ILauncher, ITranslator],
  activate: (
    _: JupyterFrontEnd,
    model: IElasticModel,
    launcher: ILauncher | null,
    translator: ITranslator | null
  ) => {
    if (!launcher) {
      return;
    }
    const trans = (translator ?? nullTranslator).load('jupyter_elastic');
    let cards: IDisposable[] = [];
    let shown = '';
    const update = (): void => {
      const now = JSON.stringify(
        model.templates.map(one => [one.name, one.display_name, one.warm, one.target])
      );
      if (now === shown) {
        return;
      }
      shown = now;
      cards.forEach(card => card.dispose());
      cards = model.templates.map((template, rank) =>
        launcher.add({
          command: CommandIDs.chooseKernel,
          args: { template: template.name, isNew: true, isLauncher: true },
          category: trans.__('Elastic Kernels'),
          categoryRank: 2.5,
          rank
        })
      );
    };
    model.changed.connect(update);
    update();
  }
};
